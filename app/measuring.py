"""Measuring our posts: counts at planned ages, and what was said under a post once a count has moved.

A post is read at seven ages, 100 posts to a request, so its cost does not depend on how often the loop runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import structlog
from sqlalchemy.orm import Session

from app import clock
from app.config import VibeBotConfig
from app.connectors.bot_db import BotDB
from app.connectors.engagement_db import EngagementDB
from app.connectors.quotes_comments_db import QuotesCommentsDB
from app.loops import PutOff
from app.talk import read_talk, store_talk
from app.x.errors import Retryable
from app.x.types import Counts
from app.x_interactor import XInteractor
from dbs.models import Engagement, Post
from dbs.session import Database

log = structlog.get_logger()

# The half-life of impressions is about 80 minutes (arXiv 2302.09654), so the early ages lie close together.
AGES = (
    timedelta(minutes=15),
    timedelta(hours=1),
    timedelta(hours=4),
    timedelta(hours=12),
    timedelta(hours=24),
    timedelta(hours=48),
    timedelta(days=7),
)
BATCH = 100
# A batch whose worker dies is measured by another one after this, in world time.
CLAIM = timedelta(minutes=10)
# More messages than this would only wait behind each other; the next turn sends for what is left.
MAX_FURTHER_BATCHES = 64


class Reading(NamedTuple):
    """What X says of a post now, and where what was said under it is exported, relative to the data root."""

    post: Post
    counts: Counts
    quotes_filepath: str | None
    comments_filepath: str | None


def measure_due(db: Database, x: XInteractor, config: VibeBotConfig) -> int:
    """Measure every post that is due, batch by batch.

    Returns:
        The number of snapshots stored.

    Raises:
        PutOff: X's window or our budget is empty; the posts not read stay due.
    """
    stored = 0
    while (measured := measure_batch(db, x, config)) is not None:
        stored += measured
    return stored


def measure_batch(db: Database, x: XInteractor, config: VibeBotConfig) -> int | None:
    """Measure the posts that have been due for longest, as many as fit a request.

    Returns:
        The number of snapshots stored; None if no post is due.

    Raises:
        PutOff: as `measure_due`.
    """
    with db.transaction() as session:
        # Claimed by moving the due time, so that several workers share the work without locks across requests.
        posts = BotDB(session, config.bot_id).claim_to_measure(clock.now(), BATCH, CLAIM)
    if not posts:
        return None
    try:
        counts = x.get_counts([str(post.x_post_id) for post in posts])
    except Retryable as error:
        _return_claim(db, config.bot_id, posts)
        raise PutOff(error.retry_at, str(error)) from error
    found = [(post, counts[str(post.x_post_id)]) for post in posts if str(post.x_post_id) in counts]
    _note_the_gone(db, [post for post in posts if str(post.x_post_id) not in counts])
    with db.transaction() as session:
        talked_about = QuotesCommentsDB(session, config.bot_id).posts_among([post.post_id for post, _ in found])
        # Of most posts nobody has said anything: these are stored together, which is most of a turn's work saved.
        quiet = [
            Reading(post, read, None, None)
            for post, read in found
            if not (read.replies or read.quotes or post.post_id in talked_about)
        ]
        _store(session, config, quiet)
    stored = {reading.post.post_id for reading in quiet}
    for post, read in found:
        if post.post_id not in stored:
            _measure(db, x, config, post, read)
    return len(found)


def further_batches(db: Database, config: VibeBotConfig) -> int:
    """How many batches are due beyond the first, at most `MAX_FURTHER_BATCHES`: work that other workers can take."""
    with db.transaction() as session:
        due = BotDB(session, config.bot_id).count_to_measure(clock.now(), BATCH * (MAX_FURTHER_BATCHES + 1))
    return max(0, math.ceil(due / BATCH) - 1)


def _return_claim(db: Database, bot_id: str, posts: list[Post]) -> None:
    with db.transaction() as session:
        BotDB(session, bot_id).schedule_measures([(post.post_id, post.measure_step, clock.now()) for post in posts])


def _note_the_gone(db: Database, posts: Sequence[Post]) -> None:
    """Posts that X no longer shows are not measured any more."""
    with db.transaction() as session:
        for post in posts:
            row = session.get_one(Post, post.post_id)
            row.deleted_at, row.next_measure_at = clock.now(), None
            log.info("post.gone", post_id=str(post.post_id))


def _measure(db: Database, x: XInteractor, config: VibeBotConfig, post: Post, counts: Counts) -> None:
    """Store one reading, with what was said where a count has moved, and plan the next."""
    talk = read_talk(db, x, config, post, counts)
    with db.transaction() as session:
        quotes, comments = store_talk(session, config, post, talk)
        _store(session, config, [Reading(post, counts, quotes, comments)])


def _store(session: Session, config: VibeBotConfig, readings: Sequence[Reading]) -> None:
    now = clock.now()
    EngagementDB(session, config.bot_id).add(*(_snapshot(config.bot_id, reading, now) for reading in readings))
    plan = []
    for post in (reading.post for reading in readings):
        step = sum(planned <= now - _posted_at(post) for planned in AGES)
        plan.append((post.post_id, step, _posted_at(post) + AGES[step] if step < len(AGES) else None))
    BotDB(session, config.bot_id).schedule_measures(plan)


def _posted_at(post: Post) -> datetime:
    if post.post_time is None:
        raise ValueError(f"post {post.post_id} is to be measured but has no post_time")
    return post.post_time


def _snapshot(bot_id: str, reading: Reading, now: datetime) -> Engagement:
    post, counts, quotes_filepath, comments_filepath = reading
    age = now - _posted_at(post)
    # The planned age is the last one that has passed: a late reading stands for the age it was late for.
    planned = max((planned for planned in AGES if planned <= age), default=AGES[0])
    return Engagement(
        post_id=post.post_id,
        bot_id=bot_id,
        retrieval_time=now,
        likes=counts.likes,
        retweets=counts.retweets,
        quotes=counts.quotes,
        replies=counts.replies,
        bookmarks=counts.bookmarks,
        impressions=counts.impressions,
        url_link_clicks=counts.url_link_clicks,
        user_profile_clicks=counts.user_profile_clicks,
        planned_age_s=int(planned.total_seconds()),
        age_s=age.total_seconds(),
        quotes_filepath=quotes_filepath,
        comments_filepath=comments_filepath,
    )
