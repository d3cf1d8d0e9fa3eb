"""How far the bot has come, by name: which post it read last of a list, and whose turn is next.

All functions work within the session's transaction, so that a cursor moves with what was read or not at all.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app import clock
from dbs.models import Cursor


def at(session: Session, bot_id: str, name: str) -> str | None:
    """Where a cursor stands; None if it was never moved."""
    row = session.get(Cursor, (bot_id, name))
    return row.value if row is not None else None


def move(session: Session, bot_id: str, name: str, to: str) -> None:
    """Put a cursor wherever it is to stand now."""
    _put(session, bot_id, name, to, where=None)


def advance(session: Session, bot_id: str, name: str, newest: str | None) -> None:
    """Move a cursor to an X id, forward and never back: another worker may have read further meanwhile."""
    if newest is None:
        return
    # Ids are numbers written as text: a longer one is newer, and of two equally long ones the greater.
    longer = func.length(newest) > func.length(Cursor.value)
    greater = (func.length(newest) == func.length(Cursor.value)) & (Cursor.value < newest)
    _put(session, bot_id, name, newest, where=longer | greater)


def _put(session: Session, bot_id: str, name: str, value: str, *, where: ColumnElement[bool] | None) -> None:
    statement = insert(Cursor).values(bot_id=bot_id, name=name, value=value, updated_at=clock.now())
    changed = {"value": statement.excluded.value, "updated_at": statement.excluded.updated_at}
    session.execute(statement.on_conflict_do_update(index_elements=["bot_id", "name"], set_=changed, where=where))
