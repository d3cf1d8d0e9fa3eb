"""Upkeep of the community: handles resolved, accounts followed, profiles refreshed."""

from __future__ import annotations

from app.celery import app
from app.schedule import LoopName
from app.tasks.turn import take_turn


@app.task(name="app.tasks.community")
def community(scheduled: bool = False) -> None:
    take_turn(LoopName.COMMUNITY, scheduled=scheduled)
