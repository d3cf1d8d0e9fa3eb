"""Loops, ticks and turns: what beat is told."""

from __future__ import annotations

from datetime import timedelta

import pytest

from app.celery import MAX_TICK_SECONDS, MIN_TICK_SECONDS, tick_seconds
from app.config import LoopConfig
from app.schedule import LoopName, interval


@pytest.mark.parametrize("loop", list(LoopName))
def test_every_loop_has_an_interval(loop: LoopName) -> None:
    assert interval(loop, LoopConfig()) > timedelta()


def test_ticks_come_several_times_per_interval_within_bounds() -> None:
    assert tick_seconds(timedelta(seconds=20)) == 5
    assert tick_seconds(timedelta(days=1)) == MAX_TICK_SECONDS
    assert tick_seconds(timedelta(seconds=1)) == MIN_TICK_SECONDS


def test_ticks_follow_a_fast_world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPLORER_CLOCK", "2026-01-05T08:00:00Z@60")
    assert tick_seconds(timedelta(minutes=15)) == 3.75
