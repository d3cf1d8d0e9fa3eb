"""CommunityDB: profiles of the users that the bots know, and who belongs to one bot's community."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app import clock, events
from app.x.types import XUser
from dbs.models import Community, Membership
from dbs.states import FollowState, ReplyPolicy


class CommunityDB:
    """Profiles, which all bots share, and one bot's memberships. Commits nothing."""

    def __init__(self, session: Session, bot_id: str) -> None:
        self._session = session
        self._bot_id = bot_id

    def upsert(self, users: Iterable[XUser]) -> None:
        """Store profiles as X just gave them, in one statement. What X left out this time is kept as it was."""
        now = clock.now()
        rows = {
            user.user_id: {
                "user_id": user.user_id,
                "handle": user.handle,
                "name": user.name,
                "bio": user.bio,
                "location": user.location,
                "followers": user.followers,
                "following": user.following,
                "protected": user.protected,
                "fetched_at": now,
            }
            for user in users
        }
        if not rows:
            return
        # In the order of the key, so that two workers that store the same users do not wait for each other in a ring.
        new = insert(Community).values([rows[user_id] for user_id in sorted(rows)])
        kept = ("name", "bio", "location", "followers", "following", "protected")
        values = {name: func.coalesce(new.excluded[name], getattr(Community, name)) for name in kept}
        self._session.execute(
            new.on_conflict_do_update(
                index_elements=[Community.user_id],
                set_={"handle": new.excluded.handle, "fetched_at": new.excluded.fetched_at, **values},
            )
        )

    def join(self, user_id: str, follow_state: FollowState, reason: str | None = None) -> None:
        """Make a known user a member, or give a member another follow state.

        What a person has set (the reply policy) and what the user has asked for (to be left alone) stay as they are.
        """
        now = clock.now()
        row = self._membership(user_id, follow_state) | {
            "follow_reason": reason,
            "followed_at": now if follow_state is FollowState.FOLLOWING else None,
        }
        new = insert(Membership).values(row)
        self._session.execute(
            new.on_conflict_do_update(
                index_elements=[Membership.bot_id, Membership.user_id],
                set_={
                    "follow_state": new.excluded.follow_state,
                    "follow_reason": new.excluded.follow_reason,
                    "followed_at": func.coalesce(new.excluded.followed_at, Membership.followed_at),
                },
            )
        )

    def meet(self, user_ids: Iterable[str]) -> None:
        """Make known users members that were only met; who is a member already stays what he is."""
        rows = [self._membership(user_id, FollowState.MET) for user_id in sorted(set(user_ids))]
        if rows:
            self._session.execute(insert(Membership).values(rows).on_conflict_do_nothing())

    def set_policy(self, handle: str, policy: ReplyPolicy) -> str:
        """Say how the bot may treat a user that it knows, member or not; returns the user's X id.

        Raises:
            LookupError: no bot knows the handle.
        """
        user_id = self.id_of(handle)
        if user_id is None:
            raise LookupError(f"no user with the handle {handle!r} is known; `explorer community list` shows who is")
        self.meet([user_id])
        self._session.get_one(Membership, (self._bot_id, user_id), with_for_update=True).reply_policy = policy
        events.record(self._session, self._bot_id, "member.policy", user_id, policy=policy.value)
        return user_id

    def members(self) -> list[Membership]:
        """The configured members in the order in which they joined; whoever was only met is not among them."""
        return self._memberships(Membership.follow_state != FollowState.MET)

    def followed(self) -> list[Membership]:
        """The members that the bot follows."""
        return self._memberships(Membership.follow_state == FollowState.FOLLOWING)

    def get(self, user_id: str) -> Community | None:
        """A profile; None if no bot knows the user."""
        return self._session.get(Community, user_id)

    def id_of(self, handle: str) -> str | None:
        """Whose handle it is, whatever its case; the last to be seen with it, because handles change hands."""
        return self._session.scalars(
            select(Community.user_id)
            .where(func.lower(Community.handle) == handle.removeprefix("@").lower())
            .order_by(Community.fetched_at.desc())
            .limit(1)
        ).one_or_none()

    def stale(self, minutes: float) -> list[str]:
        """Members whose profile was last fetched more minutes of world time ago than this, the oldest first."""
        before = clock.now() - timedelta(minutes=minutes)
        ids = self._session.scalars(
            select(Community.user_id)
            .join(Membership, self._is_mine())
            .where(Community.fetched_at < before)
            .order_by(Community.fetched_at)
        )
        return list(ids)

    def without_summary(self, limit: int) -> list[Community]:
        """Profiles of members that nobody has summarised yet, those who joined first first."""
        profiles = self._session.scalars(
            select(Community)
            .join(Membership, self._is_mine())
            .where(Community.account_summary.is_(None))
            .order_by(Membership.joined_at, Community.user_id)
            .limit(limit)
        )
        return list(profiles)

    def set_summary(self, user_id: str, summary: str) -> None:
        """Store what a user writes about.

        Raises:
            LookupError: no bot knows the user.
        """
        known = self._session.scalars(
            update(Community)
            .where(Community.user_id == user_id)
            .values(account_summary=summary, summary_at=clock.now())
            .returning(Community.user_id)
        ).one_or_none()
        if known is None:
            raise LookupError(f"user {user_id} has no profile; upsert it before its summary")

    def _membership(self, user_id: str, follow_state: FollowState) -> dict[str, object]:
        return {
            "bot_id": self._bot_id,
            "user_id": user_id,
            "follow_state": follow_state,
            "reply_policy": ReplyPolicy.REPLY,
            "joined_at": clock.now(),
        }

    def _memberships(self, condition: ColumnElement[bool]) -> list[Membership]:
        rows = self._session.scalars(
            select(Membership)
            .where(Membership.bot_id == self._bot_id, condition)
            .order_by(Membership.joined_at, Membership.user_id)
        )
        return list(rows)

    def _is_mine(self) -> ColumnElement[bool]:
        return (Membership.user_id == Community.user_id) & (Membership.bot_id == self._bot_id)
