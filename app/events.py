"""The operator's record: what happened, to what, and why."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from app import clock
from dbs.models import Event


def record(session: Session, bot_id: str, kind: str, subject: str | None = None, **detail: Any) -> None:
    """Add an event in the caller's transaction, so that it stands exactly if what it tells of does.

    Args:
        kind: a dotted name, e.g. `persona.revised`.
        detail: facts that JSON can hold.
    """
    session.add(Event(bot_id=bot_id, at=clock.wall_now(), kind=kind, subject=subject, detail=detail))
