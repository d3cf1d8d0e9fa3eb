"""Adaptive revisions of the persona."""

from __future__ import annotations

from app.celery import app
from app.context import BotContext
from app.persona import revise
from app.schedule import LoopName
from app.tasks.turn import take_turn


def _revise(bot: BotContext) -> int:
    with bot.db.transaction() as session:
        return int(revise(session, bot.config) is not None)


@app.task(name="app.tasks.persona")
def persona(scheduled: bool = False) -> None:
    take_turn(LoopName.PERSONA, _revise, scheduled=scheduled)
