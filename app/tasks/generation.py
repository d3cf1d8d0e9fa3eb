"""Judging and writing, on the generation node. An I/O worker that loads this module still has no torch."""

from __future__ import annotations

from app.celery import app
from app.context import process_context
from app.schedule import LoopName
from app.tasks.turn import take_turn


@app.task(name="app.tasks.generation")
def generation(scheduled: bool = False) -> None:
    take_turn(LoopName.GENERATION, scheduled=scheduled)


@app.task(name="app.tasks.own_post")
def own_post(scheduled: bool = False) -> None:
    take_turn(LoopName.OWN_POSTS, scheduled=scheduled)


@app.task(name="app.tasks.summaries")
def summaries(scheduled: bool = False) -> None:
    take_turn(LoopName.SUMMARIES, scheduled=scheduled)


@app.task(name="app.tasks.reload")
def reload() -> None:
    """Swap to the current checkpoint now. Runs between two batches, because this node has one thread."""
    process_context().author.ensure_current()


def serving() -> str | None:
    """The id of the checkpoint in memory; None if the model is not loaded, as on every node but generation@."""
    if process_context.cache_info().currsize == 0 or not process_context().has_author:
        return None
    checkpoint_id = process_context().author.serving
    return str(checkpoint_id) if checkpoint_id else None
