"""Which drafts have earned a reward by now, and writing it down. The sum itself is in `app/learning/reward.py`."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, func, literal, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.config import VibeBotConfig
from app.learning.features import facts_of
from app.learning.reward import RewardInput, engagement, refusal_terms, reward_version, score
from app.learning.stance import READABLE_LANGUAGES, stance
from app.safety import TEXT_RULES
from dbs.models import Bot, Draft, Engagement, Post, QuoteComment, Reward
from dbs.states import DraftState, PostState, SentBy

TAKEN_DOWN = "taken_down"
WINDOW_POSTS = 2048  # the newest matured posts are the window that expectations are fitted to


@dataclass(frozen=True)
class Rewarded:
    """How many rewards a call wrote."""

    measured: int
    refused: int


def compute_rewards(session: Session, config: VibeBotConfig, now: datetime) -> Rewarded:
    """Reward each draft that is due one, once; a reward that stands is never touched.

    Due are refused drafts, at once, and posts measured at the reward age or later. Never: dry, failed and
    unconfirmed posts, texts that a person edited, because what they earned was not earned by what was sampled, and what
    a person posted, because which of the drafts came to be measured was then his or her choice, and not chance.

    Args:
        now: world time, written as `computed_at`.
    """
    version = reward_version(config.ppo)
    return Rewarded(
        measured=_reward_measured(session, config, version, now),
        refused=_reward_refused(session, config, version, now),
    )


def _reward_refused(session: Session, config: VibeBotConfig, version: str, now: datetime) -> int:
    """Drafts whose text form or safety refused, and posts that were taken down before their reward age."""
    refused = select(Draft.draft_id, Draft.reject_rule.label("rule")).where(
        Draft.bot_id == config.bot_id,
        Draft.state == DraftState.REJECTED,
        Draft.reject_rule.in_(TEXT_RULES),
        Draft.edited.is_(False),
    )
    taken_down = (
        select(Draft.draft_id, literal(TAKEN_DOWN).label("rule"))
        .join(Post, Post.draft_id == Draft.draft_id)
        .where(
            Post.bot_id == config.bot_id,
            Post.state == PostState.POSTED,
            Post.sent_by == SentBy.BOT,
            Post.deleted_at - Post.post_time < timedelta(minutes=config.ppo.reward_age),
            Post.edited.is_(False),
            Draft.edited.is_(False),
        )
    )
    due = refused.union(taken_down).subquery()
    drafts = session.execute(
        select(due.c.draft_id, due.c.rule)
        .outerjoin(Reward, (Reward.draft_id == due.c.draft_id) & (Reward.reward_version == version))
        .where(Reward.draft_id.is_(None))
    ).all()
    floor = config.ppo.refused_reward
    rows = [
        _row(refusal_terms(rule, floor=floor), draft_id=draft_id, bot_id=config.bot_id, version=version, now=now)
        for draft_id, rule in drafts
    ]
    return _write(session, rows)


def _reward_measured(session: Session, config: VibeBotConfig, version: str, now: datetime) -> int:
    weights, bot_id = config.ppo.reward_weights, config.bot_id
    measured = _measured_posts(session, config)
    drafts = [draft.draft_id for _, draft, _ in measured]
    already = set(
        session.scalars(select(Reward.draft_id).where(Reward.draft_id.in_(drafts), Reward.reward_version == version))
    )
    if all(draft.draft_id in already for _, draft, _ in measured):
        return 0
    stances = _read_stances(session, bot_id, [post.post_id for post, _, _ in measured])
    inputs = [
        RewardInput(
            facts_of(draft),
            engagement({name: getattr(reading, name) for name in weights}, weights, *stances[post.post_id]),
        )
        for post, draft, reading in measured
    ]
    rows = [
        _row(terms, draft_id=draft.draft_id, bot_id=bot_id, version=version, now=now, age_s=reading.age_s)
        for (_, draft, reading), terms in zip(measured, score(inputs, floor=config.ppo.refused_reward), strict=True)
        if draft.draft_id not in already
    ]
    return _write(session, rows)


def _measured_posts(session: Session, config: VibeBotConfig) -> Sequence[Row[Post, Draft, Engagement]]:
    """The window's posts, each with its draft and its first complete reading at the reward age or later."""
    complete = [getattr(Engagement, name).is_not(None) for name in config.ppo.reward_weights]
    order = func.row_number().over(
        partition_by=Engagement.post_id, order_by=(Engagement.planned_age_s, Engagement.retrieval_time)
    )
    reading = (
        select(Engagement.post_id, Engagement.retrieval_time, order.label("place"))
        .where(Engagement.bot_id == config.bot_id, Engagement.planned_age_s >= config.ppo.reward_age * 60, *complete)
        .subquery()
    )
    return session.execute(
        select(Post, Draft, Engagement)
        .join(Draft, Draft.draft_id == Post.draft_id)
        .join(reading, (reading.c.post_id == Post.post_id) & (reading.c.place == 1))
        .join(
            Engagement,
            (Engagement.post_id == reading.c.post_id) & (Engagement.retrieval_time == reading.c.retrieval_time),
        )
        .where(
            Post.bot_id == config.bot_id,
            Post.state == PostState.POSTED,
            Post.sent_by == SentBy.BOT,
            Post.edited.is_(False),
            Draft.edited.is_(False),
        )
        .order_by(Post.post_time.desc())
        .limit(WINDOW_POSTS)
    ).all()


def _read_stances(
    session: Session, bot_id: str, post_ids: Iterable[uuid.UUID]
) -> dict[uuid.UUID, tuple[tuple[float, ...], tuple[float, ...]]]:
    """Stances of the quotes and of the replies of each post; those not read yet are read and stored."""
    own_account = session.scalars(select(Bot.user_id).where(Bot.bot_id == bot_id)).one()
    rows = session.scalars(
        select(QuoteComment).where(
            QuoteComment.bot_id == bot_id,
            QuoteComment.post_id.in_(list(post_ids)),
            QuoteComment.author_id != own_account,
        )
    )
    found: dict[uuid.UUID, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for row in rows:
        if row.stance is None and row.lang in READABLE_LANGUAGES:
            row.stance = stance(row.content, row.lang)
        if row.stance is not None:
            found[row.post_id][1 if row.comment else 0].append(row.stance)
    return defaultdict(lambda: ((), ()), {key: (tuple(q), tuple(r)) for key, (q, r) in found.items()})


def _row(
    terms: dict[str, Any],
    *,
    draft_id: uuid.UUID,
    bot_id: str,
    version: str,
    now: datetime,
    age_s: float | None = None,
) -> dict[str, Any]:
    return {
        "draft_id": draft_id,
        "reward_version": version,
        "bot_id": bot_id,
        "engagement": terms["engagement"]["total"] if "engagement" in terms else None,
        "expected": terms["expected"]["mean"] if "expected" in terms else None,
        "reward": terms["reward"],
        "age_s": age_s,
        "terms": terms,
        "computed_at": now,
    }


def _write(session: Session, rows: list[dict[str, Any]]) -> int:
    if not rows:
        return 0
    # Another process may have come first: its reward stands.
    statement = insert(Reward).values(rows).on_conflict_do_nothing().returning(Reward.draft_id)
    return len(session.scalars(statement).all())
