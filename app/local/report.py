"""What a run came to, counted from the database and audited against the sandbox's own record."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from app.local.observer import Observer, Write, duplicates
from app.local.serving import serving
from dbs.models import (
    Checkpoint,
    Community,
    Draft,
    Engagement,
    Judgement,
    Membership,
    Post,
    QuoteComment,
    Reward,
    TimelinePost,
    TrainingRun,
)
from dbs.session import Database
from dbs.states import CheckpointKind, DraftState, FollowState, PostState, RunState, SeenState


@dataclass(frozen=True)
class Counts:
    """Counts of our own rows at a moment. What `posted` and `duplicates` of a report say comes from the sandbox."""

    followed: int
    timeline_posts: int
    judged: int
    drafted: int
    refused: int
    queued: int
    posted: int
    replies: int
    own_posts: int
    quotes: int
    rejected: int
    failed: int
    unconfirmed: int
    snapshots: int
    measured_twice: int
    talk: int
    rewarded: int
    training: int
    ppo_runs: int
    checkpoints: int
    promoted: int


def count(session: Session, bot_id: str) -> Counts:
    """Count the rows of a bot."""

    def rows(model: type, *conditions: Any) -> int:
        statement = select(func.count()).select_from(model).where(model.bot_id == bot_id, *conditions)  # type: ignore[attr-defined]
        return session.execute(statement).scalar_one()

    twice = select(Engagement.post_id).where(Engagement.bot_id == bot_id).group_by(Engagement.post_id)
    twice = twice.having(func.count(Engagement.planned_age_s.distinct()) >= 2)
    posted = Post.state == PostState.POSTED
    return Counts(
        followed=rows(Membership, Membership.follow_state == FollowState.FOLLOWING),
        timeline_posts=rows(TimelinePost, TimelinePost.state != SeenState.CONTEXT),
        judged=rows(Judgement),
        drafted=rows(Draft),
        refused=rows(Draft, Draft.state == DraftState.REJECTED),
        queued=rows(Post, Post.state.in_([PostState.QUEUED, PostState.SENDING])),
        posted=rows(Post, posted),
        replies=rows(Post, posted, Post.kind == "reply"),
        own_posts=rows(Post, posted, Post.kind == "post"),
        quotes=rows(Post, posted, Post.kind == "quote"),
        rejected=rows(Post, Post.state == PostState.REJECTED),
        failed=rows(Post, Post.state == PostState.FAILED),
        unconfirmed=rows(Post, Post.state == PostState.UNCONFIRMED),
        snapshots=rows(Engagement),
        measured_twice=session.execute(select(func.count()).select_from(twice.subquery())).scalar_one(),
        talk=rows(QuoteComment),
        rewarded=rows(Reward),
        training=rows(TrainingRun, TrainingRun.state == RunState.RUNNING),
        ppo_runs=rows(TrainingRun, TrainingRun.state.in_([RunState.SUCCEEDED, RunState.STOPPED])),
        checkpoints=rows(Checkpoint, Checkpoint.kind == CheckpointKind.PPO),
        promoted=rows(Checkpoint, Checkpoint.kind == CheckpointKind.PPO, Checkpoint.promoted_at.is_not(None)),
    )


@dataclass(frozen=True)
class Audit:
    """What the sandbox received, and where our rows say otherwise."""

    published: list[Write]
    duplicates: int
    differences: list[str] = field(default_factory=list)


def audit(session: Session, bot_id: str, observer: Observer) -> Audit:
    """Hold our rows against the sandbox's record of requests, id by id."""
    writes = observer.writes()
    published = [write for write in writes if write.published]
    ours = {
        row.x_post_id: row
        for row in session.scalars(select(Post).where(Post.bot_id == bot_id, Post.x_post_id.is_not(None)))
    }
    differences = [
        f"post {write.x_post_id} stands in the sandbox's record but in no row of bot_db: {write.text!r}"
        for write in published
        if write.x_post_id not in ours
    ]
    received = {write.x_post_id for write in published}
    differences += [
        f"row {row.post_id} says posted as {x_post_id}, which the sandbox never received"
        for x_post_id, row in ours.items()
        if x_post_id not in received
    ]
    return Audit(published, duplicates(writes), differences)


def report(db: Database, bot_id: str, observer: Observer, seconds: float) -> dict[str, Any]:
    """The figures of a run. `failures` names what was wrong; an empty list is a good run."""
    with db.transaction() as session:
        counts, found, served = count(session, bot_id), audit(session, bot_id, observer), serving(session, bot_id)
    kinds = [write.kind for write in found.published]
    failures = list(found.differences)
    if found.duplicates:
        failures.append(f"{found.duplicates} duplicate(s) in the sandbox's record")
    if counts.unconfirmed:
        failures.append(f"{counts.unconfirmed} post(s) with unknown outcome")
    failures += [
        f"{name} is {served[name]}, must be 0" for name in ("late_batches", "failed_generation_turns") if served[name]
    ]
    return {
        "seconds": round(seconds, 1),
        **asdict(counts),
        "posted": len(found.published),
        "replies": kinds.count("reply"),
        "own_posts": kinds.count("post"),
        "quotes": kinds.count("quote"),
        "duplicates": found.duplicates,
        "api_calls": observer.api_calls(),
        **served,
        "failures": failures,
    }


def conversations(session: Session, bot_id: str, limit: int) -> list[dict[str, Any]]:
    """The posts that earned most: what was answered, what we said, what came back."""
    latest = (
        select(Engagement)
        .where(Engagement.bot_id == bot_id)
        .order_by(Engagement.post_id, Engagement.retrieval_time.desc())
        .ext(distinct_on(Engagement.post_id))
        .subquery()
    )
    earned = (
        func.coalesce(latest.c.likes, 0) + 2 * func.coalesce(latest.c.retweets, 0) + func.coalesce(latest.c.replies, 0)
    )
    rows = session.execute(
        select(Post, latest.c.likes, latest.c.retweets, latest.c.replies, TimelinePost.text, Community.handle)
        .join(latest, latest.c.post_id == Post.post_id)
        .outerjoin(
            TimelinePost,
            (TimelinePost.bot_id == Post.bot_id) & (TimelinePost.x_post_id == Post.target_post_id),
        )
        .outerjoin(Community, Community.user_id == TimelinePost.author_id)
        .where(Post.bot_id == bot_id, Post.state == PostState.POSTED)
        .order_by(earned.desc())
        .limit(limit)
    )
    return [
        {
            "handle": handle,
            "answered": answered,
            "kind": post.kind,
            "content": post.content,
            "likes": likes,
            "retweets": retweets,
            "replies": replies,
            "said": [
                row.content
                for row in session.scalars(select(QuoteComment).where(QuoteComment.post_id == post.post_id).limit(2))
            ],
        }
        for post, likes, retweets, replies, answered, handle in rows
    ]
