"""Reading the community: the timeline and the mentions, stored with the threads above them.

Posts and the cursor behind them are committed together, so a crash neither loses nor repeats any.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

import structlog
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app import clock, cursors, forgotten, optout
from app.config import VibeBotConfig
from app.connectors.bot_db import BotDB
from app.connectors.community_db import CommunityDB
from app.loops import PutOff
from app.x.errors import Gone, NotAllowed, Retryable
from app.x.limits import QUARTER
from app.x.types import Tweet, newest_id
from app.x_interactor import XInteractor
from dbs.models import Membership, Post, TimelinePost
from dbs.session import Database
from dbs.states import FollowState, SeenState, Source

log = structlog.get_logger()

# How far up a thread is read; more would not fit a small model's prompt.
THREAD_LEVELS = 3
BY_TURNS = "members"
COUNT_COLUMNS = ("likes", "retweets", "replies", "quotes", "impressions", "counts_at")


def read_timeline(db: Database, x: XInteractor, config: VibeBotConfig) -> int:
    """Read what is new on the home timeline, or, where the bot may follow nobody, from each member by turns.

    Returns:
        The number of posts that were not known before.

    Raises:
        PutOff: X's window or our budget is empty, or no member is known yet.
    """
    with db.transaction() as session:
        members = CommunityDB(session, config.bot_id).members()
    if not members:
        raise PutOff(None, "no member of the community is known yet")
    if any(member.follow_state == FollowState.FOLLOWING for member in members):
        return _read(db, x, config, Source.TIMELINE)
    share, spare = posts_per_member(config, len(members)), _looked_for_soon(db, config)
    turns = _by_turns(db, config, members)
    return sum(_read_member(db, x, config, user_id, share=share, spare=spare) for user_id in turns)


def read_mentions(db: Database, x: XInteractor, config: VibeBotConfig) -> int:
    """Read what is new among the mentions.

    Returns:
        The number of posts that were not known before.

    Raises:
        PutOff: X's window or our budget is empty.
    """
    return _read(db, x, config, Source.MENTION)


def _read(db: Database, x: XInteractor, config: VibeBotConfig, source: Source) -> int:
    try:
        if source is Source.TIMELINE:
            tweets = x.get_timeline(config.user_id, config.loop.tl_retrieval_length)
        else:
            tweets = x.get_mentions()
        thread = _thread_above(db, x, config, tweets)
    except Retryable as error:
        raise PutOff(error.retry_at, str(error)) from error
    with db.transaction() as session:
        new = store_posts(session, config, tweets, source)
        store_posts(session, config, thread, Source.THREAD)
        cursors.advance(session, config.bot_id, source.value, newest_id(tweets))
    return new


def posts_per_member(config: VibeBotConfig, members: int) -> int:
    """How many posts of each member a turn reads, where they are read one by one; X gives no fewer than 5."""
    return max(5, config.loop.tl_retrieval_length // max(members, 1))


def _by_turns(db: Database, config: VibeBotConfig, members: Sequence[Membership]) -> Iterator[str]:
    """The members, from the one after whom the last turn ended: a window may be too small for all of them."""
    ids = [member.user_id for member in members]
    with db.transaction() as session:
        last = cursors.at(session, config.bot_id, BY_TURNS)
    first = ids.index(last) + 1 if last in ids else 0
    for user_id in [*ids[first:], *ids[:first]]:
        yield user_id
        with db.transaction() as session:
            cursors.move(session, config.bot_id, BY_TURNS, user_id)


def _looked_for_soon(db: Database, config: VibeBotConfig) -> int:
    """1 if a post of ours is looked for within X's window, else 0: members' posts and our own are one end-point.

    On the smallest tier it has five requests in that time, and members are always more.
    """
    soon = clock.now() + timedelta(seconds=QUARTER)
    with db.transaction() as session:
        return int(bool(BotDB(session, config.bot_id).to_find(soon, clock.wall_now(), limit=1)))


def _read_member(db: Database, x: XInteractor, config: VibeBotConfig, user_id: str, *, share: int, spare: int) -> int:
    name = f"user:{user_id}"
    with db.transaction() as session:
        since_id = cursors.at(session, config.bot_id, name)
    try:
        page = next(iter(x.get_user_posts(user_id, share, since_id=since_id, spare=spare)), None)
        tweets = page.tweets if page else []
        thread = _thread_above(db, x, config, tweets)
    except Retryable as error:
        raise PutOff(error.retry_at, str(error)) from error
    except (Gone, NotAllowed) as error:
        # Protected, suspended or deleted: the others are still read.
        log.info("member.unreadable", user_id=user_id, reason=str(error))
        return 0
    with db.transaction() as session:
        new = store_posts(session, config, tweets, Source.TIMELINE)
        store_posts(session, config, thread, Source.THREAD)
        cursors.advance(session, config.bot_id, name, newest_id(tweets))
    return new


def _thread_above(db: Database, x: XInteractor, config: VibeBotConfig, tweets: Sequence[Tweet]) -> list[Tweet]:
    """The posts above these that we do not have, level by level, a hundred to a request.

    Where X does not give them now, what was read is worth keeping without: it is paid for and would be read again.
    """
    thread: list[Tweet] = []
    level = tweets
    for _ in range(THREAD_LEVELS):
        have = {tweet.x_post_id for tweet in [*tweets, *thread]}
        wanted = {tweet.in_reply_to_post_id for tweet in level if tweet.in_reply_to_post_id} - have
        with db.transaction() as session:
            stored = session.scalars(
                select(TimelinePost.x_post_id).where(
                    TimelinePost.bot_id == config.bot_id, TimelinePost.x_post_id.in_(wanted)
                )
            )
            missing = sorted(wanted - set(stored) - forgotten.among(session, config.bot_id, wanted))
        if not missing:
            break
        try:
            found, _gone = x.get_posts(missing)
        except Retryable as error:
            log.info("thread.put_off", missing=len(missing), reason=str(error))
            break
        level = list(found.values())
        thread += level
    return thread


def store_posts(session: Session, config: VibeBotConfig, tweets: Iterable[Tweet], source: Source) -> int:
    """Store posts and their authors; of those already known only the counts are refreshed.

    What is forgotten, or whose author is, is not stored. Neither are plain reposts: they say nothing of their own.
    Posts of the bot itself are kept as context only, because a thread cannot be read without them.

    Returns:
        The number of posts that were not known before.
    """
    tweets = [tweet for tweet in tweets if tweet.reposted_post_id is None]
    subjects = {subject for tweet in tweets for subject in (tweet.x_post_id, tweet.author_id)}
    gone = forgotten.among(session, config.bot_id, subjects)
    tweets = [tweet for tweet in tweets if not {tweet.x_post_id, tweet.author_id} & gone]
    if not tweets:
        return 0
    community = CommunityDB(session, config.bot_id)
    community.upsert([tweet.author for tweet in tweets if tweet.author])
    quoted = [tweet.quoted_post_id for tweet in tweets if tweet.quoted_post_id]
    own_posts = set(
        session.scalars(select(Post.x_post_id).where(Post.bot_id == config.bot_id, Post.x_post_id.in_(quoted)))
    )
    rows = [_row(config, tweet, source, own_posts) for tweet in tweets]
    statement = insert(TimelinePost)
    known = set(
        session.scalars(
            select(TimelinePost.x_post_id).where(
                TimelinePost.bot_id == config.bot_id,
                TimelinePost.x_post_id.in_([tweet.x_post_id for tweet in tweets]),
            )
        )
    )
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["bot_id", "x_post_id"],
            set_={column: statement.excluded[column] for column in COUNT_COLUMNS},
        ),
        rows,
    )
    new = [tweet for tweet in tweets if tweet.x_post_id not in known]
    if source is not Source.THREAD:
        by_others = [tweet for tweet in new if tweet.author and tweet.author_id != config.user_id]
        community.meet(tweet.author_id for tweet in by_others)
        addressing = {row["x_post_id"] for row in rows if row["summons"]}
        optout.honour(session, config.bot_id, [tweet for tweet in by_others if tweet.x_post_id in addressing])
    return len(new)


def _row(config: VibeBotConfig, tweet: Tweet, source: Source, own_posts: set[str | None]) -> dict[str, object]:
    now = clock.now()
    own = tweet.author_id == config.user_id
    quotes_us = tweet.quoted_post_id is not None and tweet.quoted_post_id in own_posts
    summons = not own and (config.user_id in tweet.mentioned_user_ids or quotes_us)
    return {
        "bot_id": config.bot_id,
        "x_post_id": tweet.x_post_id,
        "author_id": tweet.author_id,
        "text": tweet.text,
        "lang": tweet.lang,
        "created_at": tweet.created_at,
        "conversation_id": tweet.conversation_id,
        "in_reply_to_post_id": tweet.in_reply_to_post_id,
        "in_reply_to_user_id": tweet.in_reply_to_user_id,
        "quoted_post_id": tweet.quoted_post_id,
        "source": source.value,
        "summons": summons,
        "likes": tweet.counts.likes,
        "retweets": tweet.counts.retweets,
        "replies": tweet.counts.replies,
        "quotes": tweet.counts.quotes,
        "impressions": tweet.counts.impressions,
        "counts_at": now,
        "first_seen_at": now,
        "state": (SeenState.CONTEXT if own or source is Source.THREAD else SeenState.SEEN).value,
    }
