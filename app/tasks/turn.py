"""What every scheduled task shares: the process's bot, the turn, and ids in the logs."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from app.context import BotContext, process_context
from app.loops import run_turn
from app.schedule import LoopName


def take_turn(loop: LoopName, stage: Callable[[BotContext], int], *, scheduled: bool) -> int | None:
    """Run a stage if its turn is due, or at once if a person sent the task (`scheduled` is False).

    Returns:
        How many things the stage did, or None if it was not its turn.
    """
    context = process_context()
    with structlog.contextvars.bound_contextvars(bot_id=context.config.bot_id, loop=loop.value):
        return run_turn(context.db, context.config, loop, lambda: stage(context), by_hand=not scheduled)
