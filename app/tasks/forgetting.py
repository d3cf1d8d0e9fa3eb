"""Forgetting what X no longer shows."""

from __future__ import annotations

from app.celery import app
from app.schedule import LoopName
from app.tasks.turn import take_turn


@app.task(name="app.tasks.forgetting")
def forgetting(scheduled: bool = False) -> None:
    take_turn(LoopName.FORGETTING, scheduled=scheduled)
