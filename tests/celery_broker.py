"""Which broker the Celery app of the tests' own process speaks to."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.celery import app

EXAMPLE = Path(__file__).parents[1] / "explorer.example.yaml"


def point_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have it speak to this one until the test is over."""
    monkeypatch.setenv("EXPLORER_CONFIG", str(EXAMPLE))  # the app's settings are read on first use
    for setting in ("broker_url", "broker_read_url", "broker_write_url"):
        monkeypatch.setattr(app.conf, setting, url)
