"""PPO, DPO and the jump start: each run has a process of its own on training@.

The turn of PPO and DPO is claimed on an I/O worker, where it costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from app.celery import app
from app.context import BotContext, process_context
from app.readiness import is_worth_a_dpo_run, is_worth_a_run
from app.schedule import LoopName
from app.tasks.turn import take_turn

if TYPE_CHECKING:
    from app.config import VibeBotConfig
    from app.learning.turn import RunOutcome
    from dbs.session import Database


def _start_if_worth_it(bot: BotContext) -> int:
    """Start what has enough to learn from; they run one after the other. Choices come first, because they are few: a
    candidate of theirs would never be made if one of PPO's were always being tried.
    """
    with bot.db.transaction() as session:
        worth = {
            "app.tasks.dpo": is_worth_a_dpo_run(session, bot.config),
            "app.tasks.ppo": is_worth_a_run(session, bot.config),
        }
    for task in (name for name, is_worth_it in worth.items() if is_worth_it):
        app.send_task(task)
    return sum(worth.values())


@app.task(name="app.tasks.ppo_due")
def ppo_due(scheduled: bool = False) -> None:
    from app.learning import runs  # light: torch is only loaded by a run

    # At every tick, not at a turn: without fresh drafts the next run may be days away.
    bot = process_context()
    runs.bury_abandoned(bot.db, bot.config.bot_id)
    take_turn(LoopName.PPO, scheduled=scheduled, stage=_start_if_worth_it)


@app.task(name="app.tasks.ppo")
def ppo() -> None:
    # Imported here, because an I/O worker that loads this module must stay without torch.
    from app.learning.trainer import run_ppo

    _learn(run_ppo)


@app.task(name="app.tasks.dpo")
def dpo() -> None:
    from app.learning.preferences import run_dpo  # here, for the same reason

    _learn(run_dpo)


def _learn(take_a_turn: Callable[[VibeBotConfig, Database], RunOutcome]) -> None:
    from app.learning import limits

    bot = process_context()
    limits.bound_process(bot.config.ppo)  # this process is the run's alone, and ends with it
    with structlog.contextvars.bound_contextvars(bot_id=bot.config.bot_id):
        outcome = take_a_turn(bot.config, bot.db)
    if outcome.promoted:
        # The fast path only: every batch compares the pointer in Postgres anyway.
        app.control.broadcast("reload_checkpoint")


@app.task(name="app.tasks.jump_start")
def jump_start() -> None:
    # Imported here, because an I/O worker that loads this module must stay without torch.
    from app.data.jump_start import train

    bot = process_context()
    with structlog.contextvars.bound_contextvars(bot_id=bot.config.bot_id):
        outcome = train(bot)
    if outcome.checkpoint_id is not None:
        app.control.broadcast("reload_checkpoint")
