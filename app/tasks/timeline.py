"""Reading: the home timeline and the mentions. New posts wake the generation worker."""

from __future__ import annotations

from app.celery import app
from app.schedule import LoopName
from app.tasks.turn import take_turn


@app.task(name="app.tasks.timeline")
def timeline(scheduled: bool = False) -> None:
    take_turn(LoopName.TIMELINE, scheduled=scheduled)


@app.task(name="app.tasks.mentions")
def mentions(scheduled: bool = False) -> None:
    take_turn(LoopName.MENTIONS, scheduled=scheduled)
