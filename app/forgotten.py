"""What was removed and must not come back: asked by whoever stores words of others.

Forgetting and storing take one lock, so that what was read before somebody was forgotten is not stored after it. A
transaction takes it before it locks any row; so none waits for another in a ring.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from dbs.models import Forgotten


def hold(session: Session, bot_id: str) -> None:
    """Let nobody be forgotten before the caller's transaction ends. Others may hold it, too."""
    session.execute(select(func.pg_advisory_xact_lock_shared(_key(bot_id))))


def begin(session: Session, bot_id: str) -> None:
    """Wait until nobody stores anything, and let nobody begin before the caller's transaction ends."""
    session.execute(select(func.pg_advisory_xact_lock(_key(bot_id))))


def among(session: Session, bot_id: str, subjects: Collection[str]) -> set[str]:
    """Which of these posts and users, by X id, are forgotten; holds the lock."""
    hold(session, bot_id)
    if not subjects:
        return set()
    return set(
        session.scalars(
            select(Forgotten.subject).where(Forgotten.bot_id == bot_id, Forgotten.subject.in_(list(subjects)))
        )
    )


def count(session: Session, bot_id: str) -> int:
    """How many subjects are forgotten; holds the lock.

    Whoever works for long on words that were read asks before and after: if it has grown, they may be forgotten.
    """
    hold(session, bot_id)
    return session.scalars(select(func.count()).where(Forgotten.bot_id == bot_id)).one()


def _key(bot_id: str) -> ColumnElement[int]:
    return func.hashtext(f"forget:{bot_id}")
