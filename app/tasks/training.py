"""PPO and the jump start: each run has a process of its own on training@.

PPO's turn is claimed on an I/O worker, where it costs nothing.
"""

from __future__ import annotations

import structlog

from app.celery import app
from app.context import BotContext, process_context
from app.readiness import is_worth_a_run
from app.schedule import LoopName
from app.tasks.turn import take_turn


def _start_if_worth_it(bot: BotContext) -> int:
    with bot.db.transaction() as session:
        if not is_worth_a_run(session, bot.config):
            return 0
    app.send_task("app.tasks.ppo")
    return 1


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
    from app.learning import limits
    from app.learning.trainer import run_ppo

    bot = process_context()
    limits.bound_process(bot.config.ppo)  # this process is the run's alone, and ends with it
    with structlog.contextvars.bound_contextvars(bot_id=bot.config.bot_id):
        outcome = run_ppo(bot.config, bot.db)
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
