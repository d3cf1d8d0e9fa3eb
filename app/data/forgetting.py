"""Forgetting: the words of a user, or a post, leave the database in one transaction and the files after it.

What is ours stays: our posts with their numbers, the checkpoint that wrote them, and the ids of what they answered. A
crash between the two leaves rows of `forgotten` without `cleared_at`; the next call, or the next turn of the loop, does
the files again (`app/data/clearing.py`). Weights that have learnt from the words stay as they are.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app import clock, events, forgotten
from app.config import VibeBotConfig
from app.policy.fence import posts_in, shown
from app.posting import set_state
from dbs.models import (
    Community,
    Cursor,
    DataSetAccount,
    Draft,
    DraftSample,
    EarlierPost,
    Forgotten,
    GateVerdict,
    Membership,
    Post,
    Preference,
    QuoteComment,
    SeedHandle,
    TimelinePost,
)
from dbs.states import DraftState, PostState, SourceState

log = structlog.get_logger()

BY_HAND, NOT_SHOWN = "by hand", "no longer shown by X"
NOTE = "(forgotten)"  # in place of a prompt that held the words
RULE = "forgotten"


@dataclass(frozen=True)
class Words:
    """What is to go: the posts by X id, those of users included, the texts as prompts show them, and since when."""

    subjects: frozenset[str]
    authors: frozenset[str]
    texts: frozenset[str]
    since: datetime | None


@dataclass(frozen=True)
class Removed:
    """How much went: posts of others, prompts of ours, and posts of ours that will not be sent."""

    posts: int
    prompts: int
    unsent: int


def forget(session: Session, config: VibeBotConfig, subjects: Collection[str], reason: str) -> Removed:
    """Remove posts and users, by X id, from the database, and keep them from coming back. May be run again.

    Approved drafts about them are rejected; queued posts in answer to them, and those that a person was to send, too.
    One that is being sent goes out: its request has left.

    Args:
        session: a transaction in which nothing else is done; it waits for whoever stores words of others.
        reason: written to `forgotten`.
    """
    forgotten.begin(session, config.bot_id)
    words = _words(session, config.bot_id, subjects)
    _remember(session, config.bot_id, words.subjects, reason)
    prompts = _remove_prompts(session, config.bot_id, words)
    unsent = _unqueue(session, config.bot_id, words)
    posts = _remove_posts(session, config.bot_id, words)
    session.execute(
        delete(EarlierPost).where(EarlierPost.bot_id == config.bot_id, EarlierPost.x_post_id.in_(list(subjects)))
    )
    _remove_people(session, config.bot_id, words, subjects)
    removed = Removed(posts, prompts, unsent)
    # The first is the subject: the ids of all stand in the table.
    detail = {"subjects": len(words.subjects), "reason": reason, "posts": posts, "prompts": prompts, "unsent": unsent}
    events.record(session, config.bot_id, "forgotten", min(subjects, default=None), **detail)
    log.info("forgotten", **detail)
    return removed


def _words(session: Session, bot_id: str, subjects: Collection[str]) -> Words:
    wanted = list(subjects)
    seen = session.scalars(
        select(TimelinePost)
        .where(
            TimelinePost.bot_id == bot_id,
            or_(TimelinePost.x_post_id.in_(wanted), TimelinePost.author_id.in_(wanted)),
        )
        .order_by(TimelinePost.x_post_id)
        .with_for_update()
    ).all()
    said = session.scalars(
        select(QuoteComment).where(
            QuoteComment.bot_id == bot_id,
            or_(QuoteComment.reply_id.in_(wanted), QuoteComment.author_id.in_(wanted)),
        )
    ).all()
    return Words(
        subjects=frozenset(wanted) | {row.x_post_id for row in seen} | {row.reply_id for row in said},
        authors=frozenset(row.author_id for row in seen),
        texts=frozenset(shown(row.text) for row in seen),
        since=min((row.first_seen_at for row in seen), default=None),
    )


def _remember(session: Session, bot_id: str, subjects: Collection[str], reason: str) -> None:
    """Whoever is forgotten again is cleared out of the files again: a killed process may have left something."""
    now = clock.wall_now()
    rows = [{"bot_id": bot_id, "subject": subject, "reason": reason, "at": now} for subject in sorted(subjects)]
    if rows:
        statement = insert(Forgotten).values(rows)
        session.execute(
            statement.on_conflict_do_update(index_elements=["bot_id", "subject"], set_={"cleared_at": None})
        )


def _remove_prompts(session: Session, bot_id: str, words: Words) -> int:
    """Reject drafts that wait, and remove the prompts that hold the words, with the sample that learning needs."""
    holding = _prompts_with(session, bot_id, words)
    if not holding:
        return 0
    drafts = update(Draft).where(Draft.draft_id.in_(holding))
    session.execute(
        drafts.where(Draft.state.in_((DraftState.APPROVED, DraftState.WAITING, DraftState.OFFERED))).values(
            state=DraftState.REJECTED, reject_rule=RULE
        )
    )
    # One that was never posted may repeat the words, and the reason for which it was refused may quote them.
    session.execute(
        drafts.where(Draft.state == DraftState.REJECTED).values(
            content="", reject_reason="what its prompt was about was forgotten"
        )
    )
    session.execute(update(Post).where(Post.draft_id.in_(holding)).values(content_gen_prompt=NOTE))
    session.execute(
        delete(Preference).where(
            or_(Preference.chosen_draft_id.in_(holding), Preference.rejected_draft_id.in_(holding))
        )
    )
    removed = session.execute(
        delete(DraftSample).where(DraftSample.draft_id.in_(holding)).returning(DraftSample.draft_id)
    )
    return len(removed.all())


def _prompts_with(session: Session, bot_id: str, words: Words) -> list[uuid.UUID]:
    """Drafts that answer the posts or their authors, and those that were shown the posts beside others."""
    subjects = list(words.subjects)
    about = set(
        session.scalars(
            select(Draft.draft_id).where(
                Draft.bot_id == bot_id, or_(Draft.target_post_id.in_(subjects), Draft.target_author_id.in_(subjects))
            )
        )
    )
    if words.since is not None:
        rows = session.execute(
            select(DraftSample.draft_id, DraftSample.prompt)
            .join(Draft, Draft.draft_id == DraftSample.draft_id)
            .where(Draft.bot_id == bot_id, Draft.created_at >= words.since),
            execution_options={"yield_per": 500},
        )
        about |= {draft_id for draft_id, prompt in rows if words.texts & posts_in(prompt)}
    return sorted(about)


def _unqueue(session: Session, bot_id: str, words: Words) -> int:
    subjects = list(words.subjects)
    posts = session.scalars(
        select(Post)
        .where(
            Post.bot_id == bot_id,
            Post.state.in_((PostState.QUEUED, PostState.AWAITED)),
            or_(Post.target_post_id.in_(subjects), Post.target_author_id.in_(subjects)),
        )
        .order_by(Post.post_id)
        .with_for_update()
    ).all()
    for post in posts:
        set_state(post, PostState.REJECTED, "its target was forgotten")
    return len(posts)


def _remove_posts(session: Session, bot_id: str, words: Words) -> int:
    """Posts that were read (their judgements go with them), what was said about ours, and what verdicts show."""
    subjects = list(words.subjects)
    seen = session.execute(
        delete(TimelinePost)
        .where(TimelinePost.bot_id == bot_id, TimelinePost.x_post_id.in_(subjects))
        .returning(TimelinePost.x_post_id)
    ).all()
    said = session.execute(
        delete(QuoteComment)
        .where(QuoteComment.bot_id == bot_id, QuoteComment.reply_id.in_(subjects))
        .returning(QuoteComment.reply_id)
    ).all()
    for verdict in session.scalars(select(GateVerdict).where(GateVerdict.bot_id == bot_id)):
        if any(shown(sample.get("answers") or "") in words.texts for sample in verdict.samples):
            verdict.samples = [
                sample | ({"answers": None} if shown(sample.get("answers") or "") in words.texts else {})
                for sample in verdict.samples
            ]
    return len(seen) + len(said)


def _remove_people(session: Session, bot_id: str, words: Words, users: Collection[str]) -> None:
    """Descriptions made from the posts, and of users that are forgotten whatever else is known of them."""
    touched = words.authors | set(users)
    session.execute(
        update(Community).where(Community.user_id.in_(sorted(touched))).values(account_summary=None, summary_at=None)
    )
    names = [f"user:{user_id}" for user_id in users]
    session.execute(delete(Cursor).where(Cursor.bot_id == bot_id, Cursor.name.in_(names)))
    session.execute(
        update(DataSetAccount)
        .where(DataSetAccount.bot_id == bot_id, DataSetAccount.account.in_(users))
        .values(state=SourceState.GONE, reason=RULE, updated_at=clock.wall_now())
    )
    session.execute(
        update(SeedHandle).where(SeedHandle.bot_id == bot_id, SeedHandle.user_id.in_(users)).values(reason=RULE)
    )
    session.execute(delete(Membership).where(Membership.bot_id == bot_id, Membership.user_id.in_(users)))
    # Profiles are shared: another bot may still know the user.
    others = select(func.count()).where(Membership.user_id == Community.user_id).scalar_subquery()
    session.execute(delete(Community).where(Community.user_id.in_(users), others == 0))
