"""Feed: what was read, why it was chosen or not, what was said to it and by whom, and what that earned."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import Response
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from app.console.rendering import bot_of, render
from app.console.security import SignedIn
from dbs.models import (
    Community,
    Draft,
    EarlierPost,
    Engagement,
    Judgement,
    Post,
    QuoteComment,
    Reward,
    TimelinePost,
)
from dbs.states import DraftState, SeenState

router = APIRouter(prefix="/feed", dependencies=[SignedIn])

PER_PAGE = 25


class Shown(StrEnum):
    """Which part of what was read and written."""

    SAID = "said"
    REFUSED = "refused"
    IGNORED = "ignored"
    EARLIER = "earlier"  # by the account, before the bot


@dataclass(frozen=True)
class Item:
    """A post that was read, a draft to it, or both; a post of the bot's own has none that it answers. Or an earlier
    post of the account, alone.
    """

    at: datetime
    seen: TimelinePost | None
    handle: str | None
    judgement: Judgement | None
    draft: Draft | None
    post: Post | None
    earned: Engagement | None
    answers: Sequence[QuoteComment]
    earlier: EarlierPost | None = None


@router.get("")
def page(request: Request, show: Shown = Shown.SAID, before: Annotated[datetime | None, Query()] = None) -> Response:
    bot = bot_of(request)
    with bot.db.transaction() as session:
        make = {Shown.IGNORED: _ignored, Shown.EARLIER: _earlier}.get(show, _drafted)
        items = make(session, bot.config.bot_id, show, before)
    older = items[-1].at.isoformat() if len(items) == PER_PAGE else None
    return render(request, "feed.html", items=items, show=show, shown=list(Shown), older=older, first=before is None)


@router.get("/reward/{draft_id}")
def reward(request: Request, draft_id: uuid.UUID) -> Response:
    """The sum of a draft's reward, opened up."""
    from app.learning.reward import explain  # numpy, which no other page needs

    bot = bot_of(request)
    with bot.db.transaction() as session:
        row = session.scalars(
            select(Reward)
            .where(Reward.bot_id == bot.config.bot_id, Reward.draft_id == draft_id)
            .order_by(Reward.computed_at.desc())
            .limit(1)
        ).one_or_none()
    if row is None:
        raise HTTPException(404, "this draft has no reward yet: its engagement is not old enough")
    return render(request, "reward.html", row=row, text=explain(row.terms))


def _drafted(session: Session, bot_id: str, show: Shown, before: datetime | None) -> list[Item]:
    state = Draft.state == DraftState.REJECTED if show is Shown.REFUSED else Draft.state == DraftState.USED
    statement = (
        select(Draft, Post, TimelinePost, Community.handle, Judgement)
        .outerjoin(Post, Post.draft_id == Draft.draft_id)
        .outerjoin(
            TimelinePost, (TimelinePost.bot_id == Draft.bot_id) & (TimelinePost.x_post_id == Draft.target_post_id)
        )
        .outerjoin(Community, Community.user_id == Draft.target_author_id)
        .outerjoin(Judgement, Judgement.judgement_id == Draft.judgement_id)
        .where(Draft.bot_id == bot_id, state)
        .order_by(Draft.created_at.desc())
        .limit(PER_PAGE)
    )
    if before is not None:
        statement = statement.where(Draft.created_at < before)
    rows = session.execute(statement).all()
    post_ids = [row[1].post_id for row in rows if row[1] is not None]
    earned, answers = _newest_counts(session, post_ids), _answers(session, post_ids)
    return [
        Item(
            draft.created_at,
            seen,
            handle,
            judgement,
            draft,
            post,
            earned.get(post.post_id) if post else None,
            answers.get(post.post_id, []) if post else [],
        )
        for draft, post, seen, handle, judgement in rows
    ]


def _ignored(session: Session, bot_id: str, _: Shown, before: datetime | None) -> list[Item]:
    statement = (
        select(TimelinePost, Community.handle, Judgement)
        .outerjoin(Community, Community.user_id == TimelinePost.author_id)
        .outerjoin(
            Judgement, (Judgement.bot_id == TimelinePost.bot_id) & (Judgement.x_post_id == TimelinePost.x_post_id)
        )
        .where(
            TimelinePost.bot_id == bot_id,
            TimelinePost.state.in_([SeenState.IGNORED, SeenState.EXPIRED, SeenState.GIVEN_UP]),
        )
        .order_by(TimelinePost.created_at.desc())
        .limit(PER_PAGE)
    )
    if before is not None:
        statement = statement.where(TimelinePost.created_at < before)
    return [
        Item(seen.created_at, seen, handle, judgement, None, None, None, [])
        for seen, handle, judgement in session.execute(statement)
    ]


def _earlier(session: Session, bot_id: str, _: Shown, before: datetime | None) -> list[Item]:
    statement = (
        select(EarlierPost).where(EarlierPost.bot_id == bot_id).order_by(EarlierPost.posted_at.desc()).limit(PER_PAGE)
    )
    if before is not None:
        statement = statement.where(EarlierPost.posted_at < before)
    return [Item(row.posted_at, None, None, None, None, None, None, [], row) for row in session.scalars(statement)]


def _newest_counts(session: Session, post_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, Engagement]:
    rows = session.scalars(
        select(Engagement)
        .where(Engagement.post_id.in_(post_ids))
        .ext(distinct_on(Engagement.post_id))
        .order_by(Engagement.post_id, Engagement.retrieval_time.desc())
    )
    return {row.post_id: row for row in rows}


def _answers(session: Session, post_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, list[QuoteComment]]:
    found: dict[uuid.UUID, list[QuoteComment]] = {}
    rows = select(QuoteComment).where(QuoteComment.post_id.in_(post_ids)).order_by(QuoteComment.time_of_reply)
    for row in session.scalars(rows):
        found.setdefault(row.post_id, []).append(row)
    return found
