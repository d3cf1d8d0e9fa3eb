"""Work that waits in Postgres: how much of each kind, and since when. The broker knows of messages only.

Turns are not among it: how late each loop is stands in `app/monitor/observation.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app import clock, conduct
from app.celery import ENGAGEMENT, GENERATION, PUBLISHING
from app.config import VibeBotConfig
from dbs.models import Draft, Post, TimelinePost
from dbs.states import DraftState, PostState, SeenState

# Work by name: the queue whose tasks do it, the table, the state it waits in, and the world time from which it may be
# done.
WORK: dict[str, tuple[str, type[Any], str, str]] = {
    "judge": (GENERATION, TimelinePost, SeenState.SEEN, "first_seen_at"),
    "answer": (GENERATION, TimelinePost, SeenState.SELECTED, "first_seen_at"),
    "queue": (PUBLISHING, Draft, DraftState.APPROVED, "created_at"),
    "send": (PUBLISHING, Post, PostState.QUEUED, "due_at"),
    "settle": (PUBLISHING, Post, PostState.UNCONFIRMED, "due_at"),
    "measure": (ENGAGEMENT, Post, PostState.POSTED, "next_measure_at"),
}


@dataclass(frozen=True)
class Backlog:
    """Work of one kind.

    Attributes:
        queue: whose tasks do it.
        waiting: how much of it could be done now.
        oldest: seconds of wall time for which the oldest of it could have been, 0 if none waits.
    """

    queue: str
    waiting: int
    oldest: float


def backlog(session: Session, config: VibeBotConfig, now: datetime) -> dict[str, Backlog]:
    """What waits at a moment of world time, by the names of `WORK`. While it is quiet, nothing is to be sent."""
    quiet = conduct.after_quiet_hours(config.safety, now) > now
    return {
        work: Backlog(WORK[work][0], 0, 0.0)
        if quiet and work == "send"
        else _waiting(session, config.bot_id, work, now)
        for work in WORK
    }


def _waiting(session: Session, bot_id: str, work: str, now: datetime) -> Backlog:
    queue, table, state, column = WORK[work]
    since = getattr(table, column)
    count, oldest = session.execute(
        select(func.count(), func.min(since)).where(table.bot_id == bot_id, table.state == state, since <= now)
    ).one()
    return Backlog(queue, count, clock.wall_seconds(now - oldest) if count else 0.0)
