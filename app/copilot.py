"""Co-pilot mode: a person chooses between two drafts and posts one by hand, on X's own page; the bot sends nothing.

For the tiers on which X takes no reply by its API from who was not called. The author writes both drafts
(`app/policy/pairs.py`); what is chosen here becomes a row of `bot_db` in state `awaited`, which no outbox takes, and is
found later on our own timeline (`app/sighting.py`). The choice is kept: it is what the policy may learn from.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from app import clock, conduct, events, forgotten
from app.approval import PERSON, ApprovalError, postable
from app.config import VibeBotConfig
from app.posting import expiry, outbox_row
from app.safety import as_posted
from app.text import fits
from dbs.models import Community, Draft, Post, Preference, TimelinePost
from dbs.states import DraftState, PostState, SentBy

log = structlog.get_logger()

NOT_CHOSEN = "not_chosen"  # the rule that refuses the draft beside the chosen one
# A person who has X's page open posts at once, or not soon.
FIRST_LOOK = timedelta(minutes=2)


class CopilotError(ValueError):
    """A choice that cannot be made. The message names the draft or the post and says why."""


@dataclass(frozen=True)
class Choice:
    """One of two drafts."""

    draft_id: uuid.UUID
    content: str


@dataclass(frozen=True)
class Offer:
    """A post that is worth an answer, and the two drafts for it. Times are world time."""

    x_post_id: str
    handle: str | None
    text: str
    posted_at: datetime
    until: datetime
    drafts: tuple[Choice, Choice]


@dataclass(frozen=True)
class Awaited:
    """A text that a person was given to post, and that has not been seen yet. Times are world time."""

    x_post_id: str
    handle: str | None
    text: str | None
    content: str
    since: datetime
    until: datetime | None


def offers(session: Session, config: VibeBotConfig) -> list[Offer]:
    """Every post with two drafts to choose from, the newest post first: it is the one to be early at."""
    rows = session.execute(
        select(Draft, TimelinePost, Community.handle)
        .join(TimelinePost, (TimelinePost.bot_id == Draft.bot_id) & (TimelinePost.x_post_id == Draft.target_post_id))
        .outerjoin(Community, Community.user_id == Draft.target_author_id)
        .where(Draft.bot_id == config.bot_id, Draft.state == DraftState.OFFERED)
        .order_by(TimelinePost.created_at.desc(), TimelinePost.x_post_id, Draft.attempt)
    )
    found = []
    for x_post_id, group in groupby(rows, key=lambda row: row[1].x_post_id):
        drafts = list(group)
        if len(drafts) == 2:  # the second may still be being written
            one, other = (Choice(draft.draft_id, draft.content) for draft, _, _ in drafts)
            draft, seen, handle = drafts[0]
            until = expiry(session, config, draft)
            found.append(Offer(x_post_id, handle, seen.text, seen.created_at, until, (one, other)))
    return found


def awaited(session: Session, bot_id: str) -> list[Awaited]:
    """What persons were given to post and was not seen yet, the newest first."""
    rows = session.execute(
        select(Post, TimelinePost.text, Community.handle)
        .outerjoin(TimelinePost, (TimelinePost.bot_id == Post.bot_id) & (TimelinePost.x_post_id == Post.target_post_id))
        .outerjoin(Community, Community.user_id == Post.target_author_id)
        .where(Post.bot_id == bot_id, Post.state == PostState.AWAITED)
        .order_by(Post.queued_at.desc(), Post.post_id)
    )
    return [
        Awaited(str(post.target_post_id), handle, text, post.content, post.queued_at, post.expires_at)
        for post, text, handle in rows
    ]


def choose(session: Session, config: VibeBotConfig, draft_id: uuid.UUID, text: str, *, by: str) -> Post:
    """Give a draft, as it is or as a person changed it, to the person to post; its fellow is refused.

    Args:
        text: what the person wants to say.
        by: where the choice is made, e.g. console.

    Returns:
        The row that waits to be found; its `content` is what X's page is to be filled with.

    Raises:
        CopilotError: the draft is not offered any more, its author may not be answered now, or X would not take the
            text as one post.
    """
    forgotten.hold(session, config.bot_id)
    chosen, other = _pair(session, config.bot_id, draft_id)
    target = session.get_one(TimelinePost, (config.bot_id, chosen.target_post_id))
    if (refusal := conduct.refusal(session, config, target)) is not None:
        raise CopilotError(f"draft: got {draft_id}; nobody may answer with it now: {refusal.reason} ({refusal.rule})")
    said = _sayable(config, text)
    edited = said if said != chosen.content else None
    if edited is not None:
        chosen.content, chosen.edited = edited, True
    chosen.state, chosen.approved_at = DraftState.USED, clock.wall_now()
    other.state, other.reject_rule = DraftState.REJECTED, NOT_CHOSEN
    other.reject_reason = "a person chose the other draft"
    post = _awaited_row(session, config, chosen)
    session.add_all([post, _preference(chosen, other, edited, by)])
    session.flush()
    events.record(session, config.bot_id, "copilot.chosen", str(draft_id), edited=chosen.edited, by=by)
    return post


def dismiss(session: Session, bot_id: str, x_post_id: str, reason: str | None = None) -> None:
    """Refuse both drafts for a post. That says nothing of which is the better one, so no preference is kept.

    Raises:
        CopilotError: no drafts for this post are offered.
    """
    drafts = _offered(session, bot_id, x_post_id)
    if not drafts:
        raise CopilotError(f"post: got {x_post_id}; no drafts for it are offered any more")
    for draft in drafts:
        draft.state, draft.reject_rule = DraftState.REJECTED, PERSON
        draft.reject_reason = reason or "a person wanted neither draft"
    events.record(session, bot_id, "copilot.dismissed", x_post_id, reason=reason)


def summary(offered: Sequence[Offer], waiting: Sequence[Awaited]) -> str:
    """How many posts wait for a choice, and how many choices to be seen, for a person."""
    return (
        f"{len(offered) or 'no'} post(s) wait for a person to choose a draft, and {len(waiting) or 'no'} chosen "
        "answer(s) to be seen on the timeline"
    )


def _pair(session: Session, bot_id: str, draft_id: uuid.UUID) -> tuple[Draft, Draft]:
    """A draft and its fellow, locked."""
    draft = session.get(Draft, draft_id)
    if draft is None or draft.bot_id != bot_id or draft.target_post_id is None:
        raise CopilotError(f"draft: got {draft_id}; bot {bot_id} offers none with this id")
    drafts = {row.draft_id: row for row in _offered(session, bot_id, draft.target_post_id)}
    if len(drafts) != 2 or draft_id not in drafts:
        session.refresh(draft)
        why = f" ({draft.reject_reason})" if draft.reject_reason else ""
        raise CopilotError(f"draft: got {draft_id}; it is not offered any more, it is {draft.state}{why}")
    chosen = drafts.pop(draft_id)
    return chosen, drafts.popitem()[1]


def _offered(session: Session, bot_id: str, x_post_id: str) -> Sequence[Draft]:
    return session.scalars(
        select(Draft)
        .where(Draft.bot_id == bot_id, Draft.target_post_id == x_post_id, Draft.state == DraftState.OFFERED)
        .order_by(Draft.draft_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()


def _sayable(config: VibeBotConfig, text: str) -> str:
    try:
        said = postable(text)
    except ApprovalError as error:
        raise CopilotError(str(error)) from None
    if not fits(as_posted(said, config.safety)):
        raise CopilotError("text: with safety.disclosure below it, X would not take it; shorten it")
    return said


def _awaited_row(session: Session, config: VibeBotConfig, draft: Draft) -> Post:
    now = clock.now()
    row = outbox_row(session, config, draft) | {
        "sent_by": SentBy.PERSON,
        "state": PostState.AWAITED,
        "queued_at": now,
        "due_at": now + FIRST_LOOK,
        "expires_at": now + timedelta(minutes=config.loop.copilot_wait),
    }
    log.info("post.awaited", post_id=str(row["post_id"]), draft_id=str(draft.draft_id))
    return Post(**row)


def _preference(chosen: Draft, other: Draft, edited: str | None, by: str) -> Preference:
    return Preference(
        preference_id=uuid.uuid4(),
        bot_id=chosen.bot_id,
        target_post_id=chosen.target_post_id,
        chosen_draft_id=chosen.draft_id,
        rejected_draft_id=other.draft_id,
        edited_text=edited,
        chosen_by=by,
        chosen_at=clock.wall_now(),
    )
