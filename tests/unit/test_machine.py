"""Threads of a backtest spin, unless whoever starts it says otherwise, and what it frees it keeps."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from app.local import machine

# A wrong gate ends the command after its imports; torch reads the setting when it is imported, and never again.
ASKED = """
import os, sys
from typer.testing import CliRunner
from app.cli import app
assert "torch" not in sys.modules
import app.local.machine as machine
real = machine.have_the_machine
loaded = []
def asked():
    loaded.append("torch" in sys.modules)
    real()
machine.have_the_machine = asked
CliRunner().invoke(app, ["backtest", "--posts", "1", "--gate", "nonsense"])
print(*loaded, "torch" in sys.modules, os.environ["GOMP_SPINCOUNT"])
"""

# Half a gigabyte in pieces that glibc would map anew each time; how many pages that costs in the end.
TAKEN_AGAIN = """
import resource, sys
if sys.argv[1] == "keep":
    from app.local.machine import have_the_machine
    have_the_machine()
import torch
faults = []
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    del (pieces := [torch.ones(2**24) for _ in range(8)])[:]
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(faults[-1])
"""


def test_what_somebody_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    machine.have_the_machine()
    assert os.environ["GOMP_SPINCOUNT"] == machine.SPINS
    monkeypatch.setenv("GOMP_SPINCOUNT", "0")
    machine.have_the_machine()
    assert os.environ["GOMP_SPINCOUNT"] == "0"


def test_a_backtest_asks_before_torch_is_imported() -> None:
    clean = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    told = subprocess.run([sys.executable, "-c", ASKED], env=clean, capture_output=True, text=True, check=True).stdout
    assert told.split() == ["False", "True", machine.SPINS]


# Elsewhere there is no `mallopt` to call, and nothing to be seen of it.
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's memory is told")
def test_memory_is_taken_from_the_system_once() -> None:
    given_back, kept = (
        int(subprocess.run([sys.executable, "-c", TAKEN_AGAIN, how], capture_output=True, check=True).stdout)
        for how in ("leave", "keep")
    )
    assert kept < given_back / 4
