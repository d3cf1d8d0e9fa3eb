"""Community: who is in it, and how the bot may treat each."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import func, select

from app import events
from app.connectors.community_db import CommunityDB
from app.console.rendering import bot_of, render
from app.console.security import OwnForm, SignedIn
from dbs.models import Community, Membership, Post
from dbs.states import PostState, ReplyPolicy

router = APIRouter(prefix="/community")


@router.get("", dependencies=[SignedIn])
def page(request: Request) -> Response:
    bot = bot_of(request)
    answers = (
        select(Post.target_author_id, func.count().label("answers"))
        .where(Post.bot_id == bot.config.bot_id, Post.state == PostState.POSTED)
        .group_by(Post.target_author_id)
        .subquery()
    )
    statement = (
        select(Community, Membership, func.coalesce(answers.c.answers, 0))
        .join(Membership, Membership.user_id == Community.user_id)
        .outerjoin(answers, answers.c.target_author_id == Community.user_id)
        .where(Membership.bot_id == bot.config.bot_id)
        .order_by(Membership.joined_at, Membership.user_id)
    )
    with bot.db.transaction() as session:
        members = session.execute(statement).all()
    return render(request, "community.html", members=members, policies=list(ReplyPolicy))


@router.post("/{handle}/policy", dependencies=[OwnForm])
def set_policy(request: Request, handle: str, policy: Annotated[ReplyPolicy, Form()]) -> Response:
    """What waits to be sent to somebody who may not be answered is held back by the outbox."""
    bot = bot_of(request)
    try:
        with bot.db.transaction() as session:
            user_id = CommunityDB(session, bot.config.bot_id).set_policy(handle, policy)
            events.record(session, bot.config.bot_id, "console.policy", user_id, policy=policy.value)
    except LookupError as error:
        raise HTTPException(404, str(error)) from None
    return RedirectResponse("/community", 303)
