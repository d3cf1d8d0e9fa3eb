"""Locks in Postgres that expire and that carry a fence.

A holder that stalls past its lease may wake up beside its successor. Each taking raises `fence`, and whoever
commits under a lease checks its own fence in the same transaction, so the late one changes nothing
(Kleppmann, "How to do distributed locking", 2016). Leases live in wall time.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app import clock
from dbs.models import Lease as LeaseRow
from dbs.session import Database

# The one lease that several rooms name.
TRAINING_LEASE = "training"


class LeaseTaken(RuntimeError):
    """Somebody else holds the lease."""


class LeaseLost(RuntimeError):
    """The lease ran out and somebody else took it, or may have."""


@dataclass(frozen=True)
class Lease:
    """A lease that this process holds, or held."""

    db: Database
    bot_id: str
    name: str
    owner: str
    fence: int
    seconds: float

    def renew(self) -> None:
        """Hold it for another `seconds` of wall time from now.

        Raises:
            LeaseLost: it ran out and was taken.
        """
        with self.db.transaction() as session:
            self.check(session)
            session.execute(
                update(LeaseRow)
                .where(LeaseRow.bot_id == self.bot_id, LeaseRow.name == self.name)
                .values(expires_at=clock.wall_now() + timedelta(seconds=self.seconds))
            )

    def check(self, session: Session) -> None:
        """Lock the row and make sure that the lease is still ours, so that the caller's transaction may commit.

        Raises:
            LeaseLost: it is not.
        """
        row = session.scalars(
            select(LeaseRow).where(LeaseRow.bot_id == self.bot_id, LeaseRow.name == self.name).with_for_update()
        ).one()
        if row.fence != self.fence:
            raise LeaseLost(f"lease {self.name} of {self.bot_id}: fence {self.fence} was followed by {row.fence}")


def take(db: Database, bot_id: str, name: str, seconds: float) -> Lease:
    """Take a free or expired lease.

    Raises:
        LeaseTaken: somebody holds it.
    """
    now = clock.wall_now()
    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    expires_at = now + timedelta(seconds=seconds)
    statement = (
        insert(LeaseRow)
        .values(bot_id=bot_id, name=name, owner=owner, fence=1, expires_at=expires_at)
        .on_conflict_do_update(
            index_elements=["bot_id", "name"],
            set_={"owner": owner, "fence": LeaseRow.fence + 1, "expires_at": expires_at},
            where=LeaseRow.expires_at <= now,
        )
        .returning(LeaseRow.fence)
    )
    with db.transaction() as session:
        fence = session.execute(statement).scalar_one_or_none()
    if fence is None:
        raise LeaseTaken(f"lease {name} of {bot_id} is held by another process")
    return Lease(db, bot_id, name, owner, fence, seconds)


def release(lease: Lease) -> None:
    """Let the lease expire now, if it is still ours."""
    with lease.db.transaction() as session:
        session.execute(
            update(LeaseRow)
            .where(LeaseRow.bot_id == lease.bot_id, LeaseRow.name == lease.name, LeaseRow.fence == lease.fence)
            .values(expires_at=clock.wall_now())
        )


@contextmanager
def hold(db: Database, bot_id: str, name: str, seconds: float) -> Iterator[Lease]:
    """Hold a lease for the length of a block; a block longer than `seconds` renews it itself.

    Raises:
        LeaseTaken: somebody holds it.
    """
    lease = take(db, bot_id, name, seconds)
    try:
        yield lease
    finally:
        release(lease)
