"""EngagementDB: what each post earned, read after read. Rows are only added."""

from __future__ import annotations

import uuid

from sqlalchemy import select
from sqlalchemy.orm import Session

from dbs.models import Engagement


class EngagementDB:
    """Readings of one bot's posts. Works within the session's transaction and commits nothing."""

    def __init__(self, session: Session, bot_id: str) -> None:
        self._session = session
        self._bot_id = bot_id

    def add(self, *snapshots: Engagement) -> None:
        """Add readings, in one statement.

        Raises:
            ValueError: a reading is another bot's.
            sqlalchemy.exc.IntegrityError: there is a reading of the same post and moment.
        """
        for snapshot in snapshots:
            if snapshot.bot_id != self._bot_id:
                raise ValueError(f"reading of bot {snapshot.bot_id!r} given to the connector of {self._bot_id!r}")
        self._session.add_all(snapshots)
        self._session.flush()

    def latest(self, post_id: uuid.UUID) -> Engagement | None:
        """The newest reading of a post; None if it was never read."""
        return self._session.scalars(
            select(Engagement)
            .where(Engagement.post_id == post_id, Engagement.bot_id == self._bot_id)
            .order_by(Engagement.retrieval_time.desc())
            .limit(1)
        ).one_or_none()

    def history(self, post_id: uuid.UUID) -> list[Engagement]:
        """All readings of a post, the oldest first."""
        readings = self._session.scalars(
            select(Engagement)
            .where(Engagement.post_id == post_id, Engagement.bot_id == self._bot_id)
            .order_by(Engagement.retrieval_time)
        )
        return list(readings)

    def at_age(self, post_id: uuid.UUID, age_s: float) -> Engagement | None:
        """The first reading at which a post was at least so many seconds old; None if it was not read that late."""
        return self._session.scalars(
            select(Engagement)
            .where(Engagement.post_id == post_id, Engagement.bot_id == self._bot_id, Engagement.age_s >= age_s)
            .order_by(Engagement.age_s)
            .limit(1)
        ).one_or_none()
