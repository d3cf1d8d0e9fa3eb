"""Measuring what our posts earned."""

from __future__ import annotations

from app.celery import app
from app.schedule import LoopName
from app.tasks.turn import take_turn


@app.task(name="app.tasks.engagement")
def engagement(scheduled: bool = False) -> None:
    take_turn(LoopName.ENGAGEMENT, scheduled=scheduled)
