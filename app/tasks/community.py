"""Upkeep of the community: handles resolved, accounts followed, profiles refreshed."""

from __future__ import annotations

from app.celery import app
from app.context import process_context
from app.schedule import LoopName
from app.tasks.data_set import send_pages
from app.tasks.turn import take_turn


@app.task(name="app.tasks.community")
def community(scheduled: bool = False) -> None:
    take_turn(LoopName.COMMUNITY, scheduled=scheduled)
    # At every tick, not at a turn: pages of the data set whose messages or workers were lost are asked for again.
    send_pages(process_context())
