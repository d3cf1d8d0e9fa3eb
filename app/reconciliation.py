"""Posts whose outcome nobody knows: found on our own timeline, or proven absent and sent once more.

Matched by place (what it answers or quotes), by canonical text (X unescapes entities and rewrites links) and by time.
The own timeline lags, so one absent read proves nothing. Neither does one that did not go back to where the post would
stand: it is read to the end, which costs a request for every hundred posts made since.
"""

from __future__ import annotations

import uuid
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from app import clock, events
from app.config import VibeBotConfig
from app.connectors.bot_db import BotDB
from app.loops import PutOff
from app.posting import mark_posted, set_state
from app.text import canonical, without_addressees
from app.x.errors import Retryable
from app.x.types import Tweet
from app.x_interactor import XInteractor
from dbs.models import Post
from dbs.session import Database
from dbs.states import Kind, PostState

# How long a request may be under way before its row counts as abandoned, in wall time: above any client time-out.
ABANDONED_AFTER = timedelta(seconds=90)
# Two reads of our own timeline, this far apart in world time, that both lack the post, prove that X never had it.
ABSENT_READS = 2
BETWEEN_READS = timedelta(minutes=3)
# One retry of an unknown outcome; then a person looks, and X is asked rarely.
MAX_ATTEMPTS = 2
RARELY = timedelta(days=1)
# X shows no more of an account's posts; of those that are left to a person, only the newest are asked for.
DEPTH, NEWEST = 3200, 100


def reconcile(db: Database, x: XInteractor, config: VibeBotConfig) -> int:
    """Find out what became of posts whose outcome is unknown, by reading our own timeline.

    Returns:
        The number of posts whose state was settled.
    """
    now, abandoned = clock.now(), clock.wall_now() - ABANDONED_AFTER
    with db.transaction() as session:
        lost = BotDB(session, config.bot_id).to_find(now, abandoned)
    if not lost:
        return 0
    ours = [post for post in lost if not is_a_persons(post)]
    most = DEPTH if ours else NEWEST
    since = min(post.queued_at for post in ours or lost) - timedelta(minutes=1)
    try:
        own = x.get_own_posts(max_posts=most, start_time=since)
    except Retryable as error:
        raise PutOff(error.retry_at, str(error)) from error
    return sum(_reconcile_one(db, post.post_id, own, whole=len(own) < most) for post in lost)


def is_a_persons(post: Post) -> bool:
    """Whether both attempts were looked for in vain; that is no reason to read all that was posted since each day."""
    return post.attempts >= MAX_ATTEMPTS and post.absent_reads >= ABSENT_READS


def _reconcile_one(db: Database, post_id: uuid.UUID, own: list[Tweet], *, whole: bool) -> bool:
    with db.transaction() as session:
        post = session.get_one(Post, post_id, with_for_update=True)
        if post.state not in {PostState.SENDING, PostState.UNCONFIRMED}:
            return False
        known = taken(session, post.bot_id, own)
        found = next((tweet for tweet in own if tweet.x_post_id not in known and _is_the_same(post, tweet)), None)
        if found is not None:
            mark_posted(post, found.x_post_id)
            return True
        if post.attempts < MAX_ATTEMPTS and not whole:
            _leave_to_a_person(session, post, f"more than {DEPTH} posts were made since, and X shows no more")
            return False
        post.absent_reads += 1
        post.absent_at = clock.wall_now()
        if post.absent_reads < ABSENT_READS:
            set_state(post, PostState.UNCONFIRMED, f"absent from our timeline in {post.absent_reads} read(s)")
            post.due_at = clock.now() + BETWEEN_READS
            return False
        if post.attempts < MAX_ATTEMPTS:
            set_state(post, PostState.QUEUED, f"absent from our timeline in {post.absent_reads} reads: sent once more")
            post.absent_reads, post.due_at = 0, clock.now()
            return True
        _leave_to_a_person(session, post, "absent after a second attempt with unknown outcome")
        return False


def _leave_to_a_person(session: Session, post: Post, why: str) -> None:
    """Say so, once, and look for it rarely from now on: X may still show it."""
    reason = f"{why}; a person should look"
    if post.state_reason != reason:
        set_state(post, PostState.UNCONFIRMED, reason)
        events.record(session, post.bot_id, "post.needs_a_person", str(post.post_id))
    post.due_at = clock.now() + RARELY


def taken(session: Session, bot_id: str, own: list[Tweet]) -> set[str | None]:
    """Which of these are posts that we know already."""
    ids = [tweet.x_post_id for tweet in own]
    return set(session.scalars(select(Post.x_post_id).where(Post.bot_id == bot_id, Post.x_post_id.in_(ids))))


def _is_the_same(post: Post, tweet: Tweet) -> bool:
    """Whether a post on our own timeline is this one: same place, same text in canonical form, not older."""
    if tweet.created_at < post.queued_at - timedelta(seconds=1):
        return False
    place = tweet.quoted_post_id if post.kind == Kind.QUOTE else tweet.in_reply_to_post_id
    same_text = canonical(without_addressees(tweet.text)) == canonical(without_addressees(post.content))
    return place == post.target_post_id and same_text
