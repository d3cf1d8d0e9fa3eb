"""PPO, on the training node: a process of its own for each run."""

from __future__ import annotations

from app.celery import app
from app.context import BotContext
from app.schedule import LoopName
from app.tasks.turn import take_turn


def _train(bot: BotContext) -> int:
    # Imported here, because an I/O worker that loads this module must stay without torch.
    from app.learning.trainer import run_ppo

    outcome = run_ppo(bot.config, bot.db)
    return int(outcome.promoted)


@app.task(name="app.tasks.ppo")
def ppo(scheduled: bool = False) -> None:
    if take_turn(LoopName.PPO, _train, scheduled=scheduled):
        # The fast path only: every batch compares the pointer in Postgres anyway.
        app.control.broadcast("reload_checkpoint")
