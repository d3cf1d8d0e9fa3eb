"""Claims on pages that are still to be read, so that no two workers pay for the same one.

A claim is first the message's that asks for the page, then the worker's that reads it, under another id: of a message
that a broker delivers twice only the first finds its claim. Whoever dies with a claim leaves it to lapse, and the page
is claimed anew. A claim only saves money: what counts is decided where a page is stored (`app/data/manifest.py`).
"""

from __future__ import annotations

import uuid
from datetime import timedelta

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from app import clock
from dbs.models import DataSetAccount
from dbs.states import SourceState

# Of wall time, for a message to be taken, and again for a page to be read. A page is five requests at most
# (`THIN_PAGES`, and the posts that are answered), each of them answered or given up after 35 seconds.
LEASE = timedelta(minutes=5)


def next_account(session: Session, bot_id: str, *, most_turns: int | None = None) -> DataSetAccount | None:
    """Whose turn it is: of those that have more and that nobody is reading, whoever has had the fewest turns.

    Args:
        most_turns: none that has had as many, where that is given.
    """
    statement = (
        select(DataSetAccount)
        .where(DataSetAccount.bot_id == bot_id, DataSetAccount.state == SourceState.READING, ~_is_live())
        .order_by(DataSetAccount.turns, DataSetAccount.position)
        .limit(1)
    )
    if most_turns is not None:
        statement = statement.where(DataSetAccount.turns < most_turns)
    return session.scalars(statement).one_or_none()


def under_way(session: Session, bot_id: str) -> int:
    """Pages that are claimed now: asked for, or being read."""
    return session.scalars(
        select(func.count()).select_from(DataSetAccount).where(DataSetAccount.bot_id == bot_id, _is_live())
    ).one()


def fewest_turns(session: Session, bot_id: str) -> int | None:
    """The turns of whoever has had the fewest, claimed or not; None if every account is read to its end."""
    return session.scalars(
        select(func.min(DataSetAccount.turns)).where(
            DataSetAccount.bot_id == bot_id, DataSetAccount.state == SourceState.READING
        )
    ).one()


def claim(account: DataSetAccount) -> uuid.UUID:
    """Claim an account's next page for a message. The caller holds the row of the data set."""
    account.claim_id, account.claimed_until = uuid.uuid4(), clock.wall_now() + LEASE
    return account.claim_id


def begin(session: Session, bot_id: str, claim_id: uuid.UUID) -> DataSetAccount | None:
    """Make a message's claim this worker's; None if it has lapsed, is another's by now, or was given up.

    One that has lapsed is not brought back, even if nobody has claimed the page since: it is in no count of those under
    way any more.
    """
    return session.scalars(
        update(DataSetAccount)
        .where(DataSetAccount.bot_id == bot_id, DataSetAccount.claim_id == claim_id, _is_live())
        .values(claim_id=uuid.uuid4(), claimed_until=clock.wall_now() + LEASE)
        .returning(DataSetAccount)
    ).one_or_none()


def release(session: Session, account: DataSetAccount) -> None:
    """Give a claim up, if it is still this worker's: the page was not read."""
    session.execute(
        update(DataSetAccount)
        .where(DataSetAccount.bot_id == account.bot_id, DataSetAccount.claim_id == account.claim_id)
        .values(claim_id=None, claimed_until=None)
    )


def _is_live() -> ColumnElement[bool]:
    return DataSetAccount.claim_id.is_not(None) & (DataSetAccount.claimed_until > clock.wall_now())
