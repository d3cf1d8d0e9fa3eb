"""What every scheduled task shares: the process's bot, the turn, and ids in the logs."""

from __future__ import annotations

import structlog

from app.celery import TICKS, app
from app.context import process_context
from app.loops import run_turn
from app.schedule import LoopName
from app.stages import STAGES, WAKES, Stage


def take_turn(loop: LoopName, *, scheduled: bool, stage: Stage | None = None) -> int | None:
    """Run a loop's stage if its turn is due, or at once if a person sent the task (`scheduled` is False).

    Where the stage did something, the loop that it wakes is sent a message.

    Args:
        stage: what to run; by default what `app/stages.py` says.

    Returns:
        How many things the stage did, or None if it was not its turn.
    """
    context, work = process_context(), stage or STAGES[loop]
    with structlog.contextvars.bound_contextvars(bot_id=context.config.bot_id, loop=loop.value):
        done = run_turn(context.db, context.config, loop, lambda: work(context), by_hand=not scheduled)
    if done and loop in WAKES:
        app.send_task(TICKS[WAKES[loop]])
    return done
