"""What can be seen of checkpoints: which one is served, what each earned, how long a reload took."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from dbs.models import Checkpoint, Draft, Event, Reward


@dataclass(frozen=True)
class Served:
    """The checkpoint that the bot writes with. `since` is world time; None for a base that was never promoted."""

    checkpoint_id: str
    kind: str
    since: datetime | None


@dataclass(frozen=True)
class Earned:
    """What a checkpoint's drafts earned over a span: means, None where nothing was measured yet."""

    checkpoint_id: str
    kind: str
    rewards: int
    reward: float | None
    engagement: float | None


@dataclass(frozen=True)
class Reload:
    """The last time that the generation node went from one checkpoint to another, in seconds of wall time.

    Attributes:
        seconds: what the swap took.
        waited: from the promotion until it was done; None if the checkpoint was not promoted since events are kept.
    """

    seconds: float
    waited: float | None


def served(session: Session, bot_id: str) -> Served | None:
    row = session.scalars(select(Checkpoint).where(Checkpoint.bot_id == bot_id, Checkpoint.is_current)).one_or_none()
    return Served(str(row.checkpoint_id), row.kind, row.promoted_at) if row else None


def earned(session: Session, bot_id: str, since: datetime) -> list[Earned]:
    """The checkpoint that is served, and each whose drafts were rewarded since a moment of world time."""
    rewarded = (
        select(
            Draft.checkpoint_id,
            func.count().label("rewards"),
            func.avg(Reward.reward).label("reward"),
            func.avg(Reward.engagement).label("engagement"),
        )
        .join(Reward, Reward.draft_id == Draft.draft_id)
        .where(Reward.bot_id == bot_id, Reward.computed_at > since)
        .group_by(Draft.checkpoint_id)
        .subquery()
    )
    rows = session.execute(
        select(Checkpoint.checkpoint_id, Checkpoint.kind, rewarded.c.rewards, rewarded.c.reward, rewarded.c.engagement)
        .outerjoin(rewarded, rewarded.c.checkpoint_id == Checkpoint.checkpoint_id)
        .where(Checkpoint.bot_id == bot_id, or_(Checkpoint.is_current, rewarded.c.rewards.is_not(None)))
        .order_by(Checkpoint.created_at)
    )
    return [Earned(str(row.checkpoint_id), row.kind, row.rewards or 0, row.reward, row.engagement) for row in rows]


def last_reload(session: Session, bot_id: str) -> Reload | None:
    """The newest reload; None before the first."""
    newest = _newest(session, bot_id, "checkpoint.reloaded")
    if newest is None:
        return None
    promoted = _newest(session, bot_id, "checkpoint.promoted", Event.subject == newest.subject, Event.at <= newest.at)
    waited = (newest.at - promoted.at).total_seconds() if promoted else None
    return Reload(float(newest.detail["seconds"]), waited)


def _newest(session: Session, bot_id: str, kind: str, *conditions: ColumnElement[bool]) -> Event | None:
    mine = select(Event).where(Event.bot_id == bot_id, Event.kind == kind, *conditions)
    return session.scalars(mine.order_by(Event.at.desc()).limit(1)).one_or_none()
