"""Measuring what our posts earned. One message per batch, so that the I/O workers share them."""

from __future__ import annotations

import structlog

from app.celery import app
from app.context import BotContext, process_context
from app.loops import PutOff
from app.measuring import further_batches, measure_batch, measure_due
from app.schedule import LoopName
from app.tasks.turn import take_turn

log = structlog.get_logger()


@app.task(name="app.tasks.engagement")
def engagement(scheduled: bool = False) -> None:
    take_turn(LoopName.ENGAGEMENT, scheduled=scheduled, stage=_measure_with_the_others)


@app.task(name="app.tasks.measure")
def measure() -> None:
    """One batch of a turn that another worker took."""
    bot = process_context()
    try:
        measure_batch(bot.db, bot.x, bot.config)
    except PutOff as put_off:
        # The posts stay due, and the turn that sent this is put off by the same window.
        log.info("measure.put_off", reason=str(put_off))


def _measure_with_the_others(bot: BotContext) -> int:
    # A batch each and no more, so that a post that is to be sent waits for one batch at most.
    for _ in range(further_batches(bot.db, bot.config)):
        app.send_task("app.tasks.measure", expires=600)
    return measure_due(bot.db, bot.x, bot.config)
