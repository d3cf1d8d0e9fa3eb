"""Co-pilot mode, the half that writes: two drafts for a post, so that a person has something to choose from.

Both pass the same rules, and the second does not nearly repeat the first. What becomes of them is in `app/copilot.py`.
"""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from app.config import VibeBotConfig
from app.policy.writer import Written
from app.safety import Refusal
from app.text import similarity
from dbs.models import Draft, TimelinePost
from dbs.states import DraftState

PAIR = 2
# Rules that refuse a draft for the sake of its fellow. They are none of a text's own, and cost the policy nothing.
TOO_ALIKE = "too_alike"
UNPAIRED = "unpaired"


def is_for_a_person(config: VibeBotConfig, post: TimelinePost) -> bool:
    """Whether a person, and not the bot, would answer this post: those who call the bot are answered by it."""
    return config.safety.copilot and not post.summons


def most_attempts(config: VibeBotConfig, post: TimelinePost) -> int:
    """How many drafts may be written before a post is given up."""
    return config.loop.max_drafts_per_target * (PAIR if is_for_a_person(config, post) else 1)


def missing(session: Session, config: VibeBotConfig, post: TimelinePost, attempts: int) -> int:
    """How many drafts to write for a post now, after so many attempts."""
    if not is_for_a_person(config, post):
        return 1
    return max(1, min(PAIR - _offered(session, post), most_attempts(config, post) - attempts))


def unless_too_alike(session: Session, config: VibeBotConfig, post: TimelinePost, draft: Written) -> Written:
    """A draft, refused where it nearly repeats the one that a person would choose it over."""
    if draft.refusal is not None or not draft.job.for_a_person:
        return draft
    for other in session.scalars(select(Draft.content).where(*_of(post))):
        alike = similarity(draft.content, other)
        if alike >= config.safety.max_similarity:
            limit = f"{config.safety.max_similarity:g} is no choice"
            return replace(draft, refusal=Refusal(TOO_ALIKE, f"likeness {alike:.2f} to the other draft, {limit}"))
    return draft


def is_whole(session: Session, post: TimelinePost) -> bool:
    """Whether a post has all the drafts that a person is shown."""
    return _offered(session, post) >= PAIR


def give_up(session: Session, post: TimelinePost) -> None:
    """Take back the draft of a post for which no second one passed the rules: one is no choice."""
    alone = update(Draft).where(*_of(post))
    reason = "no second draft passed the rules, and a person is to have a choice"
    session.execute(alone.values(state=DraftState.REJECTED, reject_rule=UNPAIRED, reject_reason=reason))


def _offered(session: Session, post: TimelinePost) -> int:
    return session.execute(select(func.count()).select_from(Draft).where(*_of(post))).scalar_one()


def _of(post: TimelinePost) -> tuple[ColumnElement[bool], ...]:
    return (
        Draft.bot_id == post.bot_id,
        Draft.target_post_id == post.x_post_id,
        Draft.state == DraftState.OFFERED,
    )
