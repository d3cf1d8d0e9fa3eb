"""What a person was given to post, looked for on our own timeline: there it gets its id, and is measured from then on.

Matched by place (what it answers), by time, and by likeness of the text, because X's page lets a person change it. Read
only while something is awaited, and ever more rarely: own posts are the cheapest thing that X sells.
"""

from __future__ import annotations

import uuid
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from app import clock, events
from app.config import VibeBotConfig
from app.connectors.bot_db import BotDB
from app.copilot import FIRST_LOOK
from app.loops import PutOff
from app.posting import mark_posted, set_state
from app.reconciliation import taken
from app.text import canonical, likeness, text_hash, without_addressees
from app.x.errors import Retryable
from app.x.types import Tweet
from app.x_interactor import XInteractor
from dbs.models import Draft, Post, Preference
from dbs.session import Database
from dbs.states import PostState

# Below this share of common characters an answer at the same place is the person's own, and none of the bot's.
LEAST_LIKENESS = 0.4
# The next look is when it has been awaited for so many times as long.
LOOK_AGAIN = 1.5


def find_awaited(db: Database, x: XInteractor, config: VibeBotConfig) -> int:
    """Look for what persons were given to post, as far as a look is due.

    Returns:
        The number of posts settled: found, or given up because the time for them is over.

    Raises:
        PutOff: X's window or our budget is empty; nothing is given up without a look.
    """
    with db.transaction() as session:
        due = BotDB(session, config.bot_id).awaited(clock.now())
    if not due:
        return 0
    try:
        own = x.get_own_posts(max_posts=100, start_time=min(post.queued_at for post in due) - timedelta(minutes=1))
    except Retryable as error:
        raise PutOff(error.retry_at, str(error)) from error
    return sum(_settle(db, config, post.post_id, own) for post in due)


def _settle(db: Database, config: VibeBotConfig, post_id: uuid.UUID, own: list[Tweet]) -> bool:
    with db.transaction() as session:
        post = session.get_one(Post, post_id, with_for_update=True)
        if post.state != PostState.AWAITED:
            return False
        known = taken(session, post.bot_id, own)
        found = _most_alike(post, [tweet for tweet in own if tweet.x_post_id not in known])
        if found is not None:
            _record(session, config, post, found)
            return True
        now = clock.now()
        if post.expires_at is not None and now >= post.expires_at:
            set_state(post, PostState.REJECTED, f"nobody posted it before {post.expires_at.isoformat()}")
            events.record(session, post.bot_id, "copilot.expired", str(post_id))
            return True
        post.absent_reads += 1
        post.absent_at = clock.wall_now()
        post.due_at = post.queued_at + max((now - post.queued_at) * LOOK_AGAIN, FIRST_LOOK)
        if post.expires_at is not None:
            post.due_at = min(post.due_at, post.expires_at)
        return False


def _most_alike(post: Post, own: list[Tweet]) -> Tweet | None:
    """The answer to the same post that is nearest to what was given, not older, and near enough; None if none is."""
    there = [
        (likeness(_said(tweet), post.content), tweet)
        for tweet in own
        if tweet.in_reply_to_post_id == post.target_post_id
        # X gives whole seconds of a post's time.
        and tweet.created_at >= post.queued_at - timedelta(seconds=1)
    ]
    alike, found = max(there, key=lambda pair: pair[0], default=(0.0, None))
    return found if alike >= LEAST_LIKENESS else None


def _record(session: Session, config: VibeBotConfig, post: Post, tweet: Tweet) -> None:
    """Note the post as it stands at X; what was changed there is what the person chose in the end."""
    said = _said(tweet)
    if canonical(said) != canonical(post.content):
        post.content, post.text_hash, post.edited = said, text_hash(said), True
        draft = session.get_one(Draft, post.draft_id, with_for_update=True)
        draft.content, draft.edited = _without_disclosure(said, config), True
        preference = session.scalars(
            select(Preference).where(Preference.chosen_draft_id == post.draft_id).with_for_update()
        ).one_or_none()
        if preference is not None:
            preference.edited_text = draft.content
    mark_posted(post, tweet.x_post_id)
    if post.post_time is not None:
        post.due_at = post.post_time  # by which the pace of what comes next is counted
    events.record(session, post.bot_id, "copilot.seen", str(post.post_id), x_post_id=tweet.x_post_id)


def _said(tweet: Tweet) -> str:
    return without_addressees(tweet.text).strip()


def _without_disclosure(text: str, config: VibeBotConfig) -> str:
    return text.removesuffix(config.safety.disclosure or "").strip()
