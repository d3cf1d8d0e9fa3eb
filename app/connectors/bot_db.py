"""BotDB: the bot's own posts, and the outbox that they leave from."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import bindparam, func, or_, select, update
from sqlalchemy.orm import Session

from app import clock
from app.conduct import SAID
from dbs.models import Post
from dbs.states import PostState


class BotDB:
    """Posts of one bot. Works within the session's transaction and commits nothing."""

    def __init__(self, session: Session, bot_id: str) -> None:
        self._session = session
        self._bot_id = bot_id

    def get(self, post_id: uuid.UUID) -> Post | None:
        """One post; None if there is none or it is another bot's."""
        return self._session.scalars(
            select(Post).where(Post.post_id == post_id, Post.bot_id == self._bot_id)
        ).one_or_none()

    def recent_texts(self, limit: int) -> list[str]:
        """Texts of the newest posts that were said or are about to be, newest first."""
        texts = self._session.scalars(
            select(Post.content)
            .where(Post.bot_id == self._bot_id, Post.state.in_(SAID))
            .order_by(Post.queued_at.desc())
            .limit(limit)
        )
        return list(texts)

    def posted_since(self, since: datetime) -> Counter[PostState]:
        """How many posts of each state are younger than a world time: by X's time, before that by ours of queueing."""
        rows = self._session.execute(
            select(Post.state, func.count())
            .where(
                Post.bot_id == self._bot_id,
                or_(Post.post_time >= since, (Post.post_time.is_(None)) & (Post.queued_at >= since)),
            )
            .group_by(Post.state)
        )
        return Counter({PostState(state): number for state, number in rows})

    def due_to_send(self, now: datetime, limit: int) -> list[uuid.UUID]:
        """Queued posts whose moment has come, the longest overdue first; what is too late to send is among them."""
        ids = self._session.scalars(
            select(Post.post_id)
            .where(Post.bot_id == self._bot_id, Post.state == PostState.QUEUED, Post.due_at <= now)
            .order_by(Post.due_at)
            .limit(limit)
        )
        return list(ids)

    def claim_sending(self, post_id: uuid.UUID) -> Post | None:
        """Move a post from queued to sending, which one caller alone can do; None if it was not queued.

        Commit before the request leaves: whoever finds the row in `sending` later must look for the post at X first.
        """
        return self._session.scalars(
            update(Post)
            .where(Post.post_id == post_id, Post.bot_id == self._bot_id, Post.state == PostState.QUEUED)
            .values(state=PostState.SENDING, sending_at=clock.wall_now(), attempts=Post.attempts + 1)
            .returning(Post)
            .execution_options(populate_existing=True)
        ).one_or_none()

    def to_find(self, now: datetime, abandoned: datetime, limit: int = 100) -> list[Post]:
        """Posts of unknown outcome to look for on our own timeline.

        Args:
            now: world time; unconfirmed posts that are due by then.
            abandoned: wall time; requests that left before it have no one waiting for their answer any more.
        """
        posts = self._session.scalars(
            select(Post)
            .where(
                Post.bot_id == self._bot_id,
                or_(
                    (Post.state == PostState.SENDING) & (Post.sending_at < abandoned),
                    (Post.state == PostState.UNCONFIRMED) & (Post.due_at <= now),
                ),
            )
            .order_by(Post.queued_at)
            .limit(limit)
        )
        return list(posts)

    def awaited(self, now: datetime, limit: int = 100) -> list[Post]:
        """Posts that a person was given to send, and that are to be looked for on our own timeline by a world time."""
        posts = self._session.scalars(
            select(Post)
            .where(Post.bot_id == self._bot_id, Post.state == PostState.AWAITED, Post.due_at <= now)
            .order_by(Post.queued_at)
            .limit(limit)
        )
        return list(posts)

    def claim_to_measure(self, now: datetime, limit: int, claim: timedelta) -> list[Post]:
        """Posts at X whose measurement is due, the longest overdue first; each is put off by `claim`.

        Several workers share the work by it: what one has claimed, and what another is just claiming, is passed over.
        """
        posts = self._session.scalars(
            select(Post)
            .where(Post.bot_id == self._bot_id, Post.next_measure_at <= now)
            .order_by(Post.next_measure_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        ).all()
        self._put_off([post.post_id for post in posts], now + claim)
        return list(posts)

    def count_to_measure(self, now: datetime, most: int) -> int:
        """How many posts at X are due to be measured, as far as `most`."""
        due = select(Post.post_id).where(Post.bot_id == self._bot_id, Post.next_measure_at <= now).limit(most)
        return self._session.scalar(select(func.count()).select_from(due.subquery())) or 0

    def schedule_measures(self, plan: Sequence[tuple[uuid.UUID, int, datetime | None]]) -> None:
        """Plan next measurements: for each post how many planned ages are done, and when the next is due, or None."""
        if plan:
            changes = [{"id": post_id, "step": step, "at": at} for post_id, step, at in plan]
            statement = update(Post).where(Post.bot_id == self._bot_id, Post.post_id == bindparam("id"))
            self._session.connection().execute(
                statement.values(measure_step=bindparam("step"), next_measure_at=bindparam("at")), changes
            )

    def _put_off(self, post_ids: Sequence[uuid.UUID], at: datetime) -> None:
        if post_ids:
            self._session.execute(update(Post).where(Post.post_id.in_(post_ids)).values(next_measure_at=at))
