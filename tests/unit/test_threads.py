"""Threads of a backtest spin, unless whoever starts it says otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from app.local import threads

# A wrong gate ends the command after its imports; torch reads the setting when it is imported, and never again.
ASKED = """
import os, sys
from typer.testing import CliRunner
from app.cli import app
assert "torch" not in sys.modules
import app.local.threads as threads
real = threads.have_the_processor
loaded = []
def asked():
    loaded.append("torch" in sys.modules)
    real()
threads.have_the_processor = asked
CliRunner().invoke(app, ["backtest", "--posts", "1", "--gate", "nonsense"])
print(*loaded, "torch" in sys.modules, os.environ["GOMP_SPINCOUNT"])
"""


def test_what_somebody_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    threads.have_the_processor()
    assert os.environ["GOMP_SPINCOUNT"] == threads.SPINS
    monkeypatch.setenv("GOMP_SPINCOUNT", "0")
    threads.have_the_processor()
    assert os.environ["GOMP_SPINCOUNT"] == "0"


def test_a_backtest_asks_before_torch_is_imported() -> None:
    clean = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    told = subprocess.run([sys.executable, "-c", ASKED], env=clean, capture_output=True, text=True, check=True).stdout
    assert told.split() == ["False", "True", threads.SPINS]
