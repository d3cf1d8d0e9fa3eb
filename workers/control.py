"""What a running worker can be asked and told by hand.

    celery -A app control reload_checkpoint
    celery -A app inspect checkpoint

The command line loads this module too, to know the names; what a command needs is imported when it is carried out.
"""

from __future__ import annotations

from typing import Any

from celery.worker.control import control_command, inspect_command

from app.celery import GENERATION, app


def _writes(state: Any) -> bool:
    return GENERATION in state.app.amqp.queues.consume_from


@control_command()
def reload_checkpoint(state: Any) -> dict[str, str]:
    """Let generation@ swap to the current checkpoint before its next batch."""
    if not _writes(state):
        return {"ok": "nothing to do: this node does not write"}
    # A message to its own queue, because the model belongs to the node's one thread and this is another.
    app.send_task("app.tasks.reload")
    return {"ok": "swaps before the next batch"}


@inspect_command()
def checkpoint(state: Any) -> dict[str, str | None]:
    """Which checkpoint this node has in memory, and which one Postgres points at."""
    from sqlalchemy import select

    from app.context import process_context
    from app.tasks.generation import serving
    from dbs.models import Checkpoint

    bot = process_context()
    with bot.db.transaction() as session:
        current = session.scalars(
            select(Checkpoint.checkpoint_id).where(Checkpoint.bot_id == bot.config.bot_id, Checkpoint.is_current)
        ).one_or_none()
    return {"serving": serving() if _writes(state) else None, "current": str(current) if current else None}
