"""Adaptive revisions of the persona."""

from __future__ import annotations

from app.celery import app
from app.schedule import LoopName
from app.tasks.turn import take_turn


@app.task(name="app.tasks.persona")
def persona(scheduled: bool = False) -> None:
    take_turn(LoopName.PERSONA, scheduled=scheduled)
