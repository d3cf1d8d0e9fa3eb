"""Measuring our posts: counts at planned ages, and what was said under a post once a count has moved.

A post is read at seven ages, 100 posts to a request, so its cost does not depend on how often the loop runs.
"""

from __future__ import annotations

import json
import math
import uuid
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from sqlalchemy.orm import Session

from app import clock, forgotten
from app.config import VibeBotConfig
from app.connectors.bot_db import BotDB
from app.connectors.community_db import CommunityDB
from app.connectors.engagement_db import EngagementDB
from app.connectors.quotes_comments_db import QuotesCommentsDB
from app.loops import PutOff
from app.x.errors import Retryable, XError
from app.x.types import Counts, Tweet
from app.x_interactor import XInteractor
from dbs.models import Engagement, Post, QuoteComment, TimelinePost
from dbs.session import Database
from dbs.states import Kind

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
EXPORTS = "engagement"  # the folder of the exports, under the data root
# A batch whose worker dies is measured by another one after this, in world time.
CLAIM = timedelta(minutes=10)
# More messages than this would only wait behind each other; the next turn sends for what is left.
MAX_FURTHER_BATCHES = 64


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
    return sum(_measure(db, x, config, post, counts.get(str(post.x_post_id))) for post in posts)


def further_batches(db: Database, config: VibeBotConfig) -> int:
    """How many batches are due beyond the first, at most `MAX_FURTHER_BATCHES`: work that other workers can take."""
    with db.transaction() as session:
        due = BotDB(session, config.bot_id).count_to_measure(clock.now(), BATCH * (MAX_FURTHER_BATCHES + 1))
    return max(0, math.ceil(due / BATCH) - 1)


def _return_claim(db: Database, bot_id: str, posts: list[Post]) -> None:
    with db.transaction() as session:
        for post in posts:
            BotDB(session, bot_id).schedule_measure(post.post_id, post.measure_step, clock.now())


def _measure(db: Database, x: XInteractor, config: VibeBotConfig, post: Post, counts: Counts | None) -> bool:
    """Store one reading, with what was said where a count has moved, and plan the next."""
    if counts is None:
        with db.transaction() as session:
            row = session.get_one(Post, post.post_id)
            row.deleted_at, row.next_measure_at = clock.now(), None
            log.info("post.gone", post_id=str(post.post_id))
        return False
    talk = _read_talk(db, x, config, post, counts)
    now = clock.now()
    age = now - _posted_at(post)
    step = sum(planned <= age for planned in AGES)
    with db.transaction() as session:
        paths = _store_talk(session, config, post, talk)
        EngagementDB(session, config.bot_id).add(_snapshot(config.bot_id, post, counts, now, paths))
        next_at = _posted_at(post) + AGES[step] if step < len(AGES) else None
        BotDB(session, config.bot_id).schedule_measure(post.post_id, step, next_at)
    return True


def _posted_at(post: Post) -> datetime:
    if post.post_time is None:
        raise ValueError(f"post {post.post_id} is to be measured but has no post_time")
    return post.post_time


def _snapshot(
    bot_id: str, post: Post, counts: Counts, now: datetime, paths: tuple[str | None, str | None]
) -> Engagement:
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
        quotes_filepath=paths[0],
        comments_filepath=paths[1],
    )


def _read_talk(
    db: Database, x: XInteractor, config: VibeBotConfig, post: Post, counts: Counts
) -> list[tuple[Tweet, bool]]:
    """Quotes and replies that we do not have yet, as (tweet, is a comment); read only where a count has moved."""
    with db.transaction() as session:
        known = QuotesCommentsDB(session, config.bot_id).of_post(post.post_id)
        conversation_id = _conversation(session, config.bot_id, post)
    comments = sum(row.comment for row in known)
    talk: list[tuple[Tweet, bool]] = []
    try:
        if (counts.replies or 0) > comments:
            talk += [(tweet, True) for tweet in x.get_replies(str(post.x_post_id), conversation_id)]
        if (counts.quotes or 0) > len(known) - comments:
            talk += [(tweet, False) for tweet in x.get_quotes(str(post.x_post_id))]
    except XError as error:
        # The counts are in hand and worth keeping; the texts are read at the next age, if X has them then.
        log.info("talk.put_off", post_id=str(post.post_id), reason=str(error))
    return [(tweet, comment) for tweet, comment in talk if tweet.author_id != config.user_id]


def _conversation(session: Session, bot_id: str, post: Post) -> str | None:
    """The conversation that a post of ours stands in: its target's for a reply, its own otherwise."""
    if post.kind != Kind.REPLY or post.target_post_id is None:
        return post.x_post_id
    target = session.get(TimelinePost, (bot_id, post.target_post_id))
    return target.conversation_id if target else None


def _store_talk(
    session: Session, config: VibeBotConfig, post: Post, talk: list[tuple[Tweet, bool]]
) -> tuple[str | None, str | None]:
    """Store what was said and export it; returns the seed's quotes_filepath and comments_filepath."""
    subjects = {subject for tweet, _ in talk for subject in (tweet.x_post_id, tweet.author_id)}
    gone = forgotten.among(session, config.bot_id, subjects)
    talk = [(tweet, comment) for tweet, comment in talk if not {tweet.x_post_id, tweet.author_id} & gone]
    CommunityDB(session, config.bot_id).upsert([tweet.author for tweet, _ in talk if tweet.author])
    rows = QuotesCommentsDB(session, config.bot_id)
    rows.upsert(
        [
            QuoteComment(
                post_id=post.post_id,
                reply_id=tweet.x_post_id,
                comment=comment,
                time_of_reply=tweet.created_at,
                bot_id=config.bot_id,
                author_id=tweet.author_id,
                content=tweet.text,
                lang=tweet.lang,
                likes=tweet.counts.likes,
                fetched_at=clock.now(),
            )
            for tweet, comment in talk
        ]
    )
    said = rows.of_post(post.post_id)
    quotes = _export(config, post.post_id, "quotes", [row for row in said if not row.comment])
    comments = _export(config, post.post_id, "comments", [row for row in said if row.comment])
    return quotes, comments


def _export(config: VibeBotConfig, post_id: uuid.UUID, name: str, rows: list[QuoteComment]) -> str | None:
    """Write rows as JSON lines under the data root; returns the path relative to it, or None if there are none."""
    if not rows:
        return None
    relative = Path(EXPORTS) / config.bot_id / str(post_id) / f"{name}.jsonl"
    path = Path(config.data_dir) / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps(
            {
                "reply_id": row.reply_id,
                "author_id": row.author_id,
                "time_of_reply": row.time_of_reply.isoformat(),
                "content": row.content,
            },
            ensure_ascii=False,
        )
        for row in rows
    ]
    write_aside(path, lines)
    return str(relative)


def write_aside(path: Path, lines: list[str]) -> None:
    """Write an export aside and rename it, because a reader may have it open."""
    aside = path.with_suffix(".part")
    aside.write_text("\n".join(lines) + "\n", encoding="utf-8")
    aside.replace(path)
