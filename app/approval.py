"""Approval mode: what the rules let pass waits for a person, and nothing is posted that no person approved.

With `safety.approval` the outbox takes only drafts that a person approved (`app/posting.py`); the others wait until it
would be too late for them. A text that a person changed is posted as changed, and never learnt from: what it earns was
not earned by what was sampled.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from app import clock, events
from app.text import fits, weighted_length
from dbs.models import Community, Draft, TimelinePost
from dbs.states import DraftState

PERSON = "person"  # the rule that refused what a person rejected


class ApprovalError(ValueError):
    """A draft that cannot be approved or rejected. The message names it and says why."""


@dataclass(frozen=True)
class Waiting:
    """A draft that waits, with what it answers or quotes; a post of its own has a topic instead."""

    draft_id: uuid.UUID
    kind: str
    content: str
    created_at: datetime
    handle: str | None
    answered: str | None
    topic: str | None


def waiting(session: Session, bot_id: str) -> list[Waiting]:
    """Every draft that waits for a person, the oldest first."""
    rows = session.execute(
        select(Draft, TimelinePost.text, Community.handle)
        .outerjoin(
            TimelinePost, (TimelinePost.bot_id == Draft.bot_id) & (TimelinePost.x_post_id == Draft.target_post_id)
        )
        .outerjoin(Community, Community.user_id == Draft.target_author_id)
        .where(Draft.bot_id == bot_id, Draft.state == DraftState.WAITING)
        .order_by(Draft.created_at, Draft.draft_id)
    )
    return [
        Waiting(draft.draft_id, draft.kind, draft.content, draft.created_at, handle, answered, draft.topic)
        for draft, answered, handle in rows
    ]


def find(session: Session, bot_id: str, beginning: str) -> uuid.UUID:
    """The waiting draft whose id begins like this.

    Raises:
        ApprovalError: none does, or several do.
    """
    found = [item.draft_id for item in waiting(session, bot_id) if str(item.draft_id).startswith(beginning.lower())]
    if len(found) != 1:
        raise ApprovalError(
            f"draft: got {beginning!r}; {len(found) or 'no'} waiting drafts have an id that begins so; "
            "`explorer approve --list` shows them"
        )
    return found[0]


def approve(session: Session, bot_id: str, draft_id: uuid.UUID, text: str | None = None) -> None:
    """Let a draft be posted at the next turn of publishing.

    Args:
        text: what is posted instead of its own text.

    Raises:
        ApprovalError: it does not wait any more, or X would not take the text as one post.
    """
    draft = _waiting(session, bot_id, draft_id)
    if text is not None and text.strip() != draft.content:
        draft.content, draft.edited = postable(text), True
    draft.state, draft.approved_at = DraftState.APPROVED, clock.wall_now()
    events.record(session, bot_id, "draft.approved", str(draft_id), edited=draft.edited)


def reject(session: Session, bot_id: str, draft_id: uuid.UUID, reason: str | None = None) -> None:
    """Never let a draft be posted.

    Raises:
        ApprovalError: it does not wait any more.
    """
    draft = _waiting(session, bot_id, draft_id)
    draft.state, draft.reject_rule = DraftState.REJECTED, PERSON
    draft.reject_reason = reason or "a person rejected it"
    events.record(session, bot_id, "draft.rejected", str(draft_id), reason=draft.reject_reason)


def _waiting(session: Session, bot_id: str, draft_id: uuid.UUID) -> Draft:
    draft = session.get(Draft, draft_id, with_for_update=True)
    if draft is None or draft.bot_id != bot_id:
        raise ApprovalError(f"draft: got {draft_id}; bot {bot_id} has none with this id")
    if draft.state != DraftState.WAITING:
        why = f" ({draft.reject_reason})" if draft.reject_reason else ""
        raise ApprovalError(f"draft: got {draft_id}; it does not wait any more, it is {draft.state}{why}")
    return draft


def postable(text: str) -> str:
    """A person's text without its outer white space.

    Raises:
        ApprovalError: X would not take it as one post.
    """
    if not fits(text):
        raise ApprovalError(
            f"text: got {weighted_length(text)} characters as X counts them; a post has 1 to 280, and none that X "
            "refuses"
        )
    return text.strip()


def summary(items: Sequence[Waiting]) -> str:
    """How many wait and since when, for a person."""
    if not items:
        return "no draft waits for a person"
    return f"{len(items)} draft(s) wait for a person, the oldest since {items[0].created_at:%F %T} UTC of world time"
