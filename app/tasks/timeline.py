"""Reading: the home timeline and the mentions. New posts wake the generation worker."""

from __future__ import annotations

from app.celery import app
from app.reading import read_mentions, read_timeline
from app.schedule import LoopName
from app.tasks.turn import take_turn


@app.task(name="app.tasks.timeline")
def timeline(scheduled: bool = False) -> None:
    if take_turn(LoopName.TIMELINE, lambda bot: read_timeline(bot.db, bot.x, bot.config), scheduled=scheduled):
        app.send_task("app.tasks.generation")


@app.task(name="app.tasks.mentions")
def mentions(scheduled: bool = False) -> None:
    if take_turn(LoopName.MENTIONS, lambda bot: read_mentions(bot.db, bot.x, bot.config), scheduled=scheduled):
        app.send_task("app.tasks.generation")
