"""Judging and writing, on the generation node. An I/O worker that loads this module still has no torch."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from app.celery import app
from app.context import BotContext, process_context
from app.schedule import LoopName
from app.tasks.turn import take_turn

if TYPE_CHECKING:
    from app.policy.author import Author


@lru_cache(maxsize=1)
def author() -> Author:
    """The resident model. Made at the first turn, because only the generation node may import torch."""
    from app.policy.author import Author

    bot = process_context()
    return Author(bot.config, bot.db)


def _answer(_: BotContext) -> int:
    author().judge_seen()
    return len(author().draft_selected())


@app.task(name="app.tasks.generation")
def generation(scheduled: bool = False) -> None:
    if take_turn(LoopName.GENERATION, _answer, scheduled=scheduled):
        app.send_task("app.tasks.publishing")


@app.task(name="app.tasks.own_post")
def own_post(scheduled: bool = False) -> None:
    if take_turn(LoopName.OWN_POSTS, lambda _: int(author().draft_own_post() is not None), scheduled=scheduled):
        app.send_task("app.tasks.publishing")


@app.task(name="app.tasks.summaries")
def summaries(scheduled: bool = False) -> None:
    take_turn(LoopName.SUMMARIES, lambda _: author().summarise_members(limit=16), scheduled=scheduled)


@app.task(name="app.tasks.reload")
def reload() -> None:
    """Swap to the current checkpoint now. Runs between two batches, because this node has one thread."""
    author().ensure_current()


def serving() -> str | None:
    """The id of the checkpoint in memory; None if the model is not loaded, as on every node but generation@."""
    if author.cache_info().currsize == 0:
        return None
    checkpoint_id = author().serving
    return str(checkpoint_id) if checkpoint_id else None
