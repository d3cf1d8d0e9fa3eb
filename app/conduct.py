"""To whom the bot may speak, and how often. What it may say is `app/safety.py`.

Asked twice: before a text is written, so that none is written for nothing, and again before it is queued, because the
world has moved on. X's rules for automated accounts: https://help.x.com/en/rules-and-policies/x-automation.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy import text as sql
from sqlalchemy.orm import Session

from app import clock
from app.config import SafetyConfig, VibeBotConfig
from app.safety import Refusal
from dbs.models import Membership, Post, TimelinePost
from dbs.models.posts import LIVE
from dbs.states import PostState, ReplyPolicy

# What was said to somebody, is about to be, or would have been if the bot were live.
SAID = (
    PostState.QUEUED,
    PostState.SENDING,
    PostState.AWAITED,
    PostState.POSTED,
    PostState.UNCONFIRMED,
    PostState.DRY,
)
LONGEST_PAUSE = 3  # of pauses between posts, in least ones
ANSWERED_AT = func.coalesce(Post.post_time, Post.queued_at)


def refusal(session: Session, config: VibeBotConfig, target: TimelinePost) -> Refusal | None:
    """Why the bot may not answer or quote this post now, or None if it may."""
    if target.author_id == config.user_id:
        return Refusal("own_post", "the target is a post of the bot itself")
    if (unwelcome := not_spoken_to(session, config.bot_id, target.author_id)) is not None:
        return unwelcome
    if not target.summons and (last := _answered_lately(session, config, target.author_id)) is not None:
        return Refusal("cooldown", f"the author was answered at {last.isoformat()}")
    answers = _answers_today(session, config.bot_id, target.author_id)
    if answers >= config.safety.max_replies_per_author:
        return Refusal("author_cap", f"the author had {answers} answers in the last 24 hours")
    replies = _replies_in_conversation(session, config.bot_id, target.conversation_id)
    if replies >= config.safety.max_replies_per_conversation:
        return Refusal("depth", f"{replies} replies of ours stand in this conversation already")
    return None


def not_spoken_to(session: Session, bot_id: str, user_id: str | None) -> Refusal | None:
    """Why an author is never answered: it asked for that (`app/optout.py`), or a person set its policy."""
    member = session.get(Membership, (bot_id, user_id)) if user_id else None
    if member is None:
        return None
    if member.opted_out_at is not None:
        return Refusal("opted_out", f"the author asked the bot to stop at {member.opted_out_at.isoformat()}")
    if member.reply_policy != ReplyPolicy.REPLY:
        return Refusal("policy", f"the author's policy is {member.reply_policy}")
    return None


def _answered_lately(session: Session, config: VibeBotConfig, author_id: str) -> datetime | None:
    """When the author was last answered, if that is within the cooldown."""
    last = session.execute(
        select(func.max(ANSWERED_AT)).where(
            Post.bot_id == config.bot_id, Post.target_author_id == author_id, Post.state.in_(SAID)
        )
    ).scalar_one()
    cooldown = timedelta(minutes=config.safety.author_cooldown)
    return last if last is not None and last > clock.now() - cooldown else None


def _answers_today(session: Session, bot_id: str, author_id: str) -> int:
    """Answers to an author within 24 hours. Who calls the bot knows no cooldown, and another bot may call for ever."""
    statement = (
        select(func.count())
        .select_from(Post)
        .where(
            Post.bot_id == bot_id,
            Post.target_author_id == author_id,
            Post.state.in_(SAID),
            clock.now() - timedelta(days=1) < ANSWERED_AT,
        )
    )
    return session.execute(statement).scalar_one()


def _replies_in_conversation(session: Session, bot_id: str, conversation_id: str | None) -> int:
    if conversation_id is None:
        return 0
    statement = (
        select(func.count())
        .select_from(Post)
        .join(
            TimelinePost,
            (TimelinePost.bot_id == Post.bot_id) & (TimelinePost.x_post_id == Post.target_post_id),
        )
        .where(Post.bot_id == bot_id, TimelinePost.conversation_id == conversation_id, sql(f"bot_db.{LIVE}"))
    )
    return session.execute(statement).scalar_one()


def next_slot(session: Session, config: VibeBotConfig, chance: random.Random) -> datetime:
    """World time at which one more post may go out: after a pause, within the caps, not in quiet hours."""
    slot = max(_after_pause(session, config, chance), _within_caps(session, config))
    return after_quiet_hours(config.safety, slot)


def _after_pause(session: Session, config: VibeBotConfig, chance: random.Random) -> datetime:
    """A while after the last post that is queued or out: people do not post like clockwork."""
    now, least = clock.now(), timedelta(minutes=config.safety.min_pause)
    pause = least * chance.uniform(1, LONGEST_PAUSE)
    leaves = _leaves_at(now)
    newest = session.execute(
        select(func.max(leaves)).where(Post.bot_id == config.bot_id, sql(LIVE), leaves > now - LONGEST_PAUSE * least)
    ).scalar_one()
    return now if newest is None else max(now, newest + pause)


def _within_caps(session: Session, config: VibeBotConfig) -> datetime:
    """World time from which the caps per hour and per day have room for one more post."""
    now = clock.now()
    caps = (
        (timedelta(hours=1), config.safety.max_posts_per_hour),
        (timedelta(days=1), config.safety.max_posts_per_day),
    )
    slot, leaves = now, _leaves_at(now)
    for span, cap in caps:
        # The cap-th newest post still counts for one span; the slot opens when it leaves.
        oldest_in_way = session.scalars(
            select(leaves)
            .where(Post.bot_id == config.bot_id, sql(LIVE), leaves > now - span)
            .order_by(leaves.desc())
            .offset(cap - 1)
            .limit(1)
        ).one_or_none()
        if oldest_in_way is not None:
            slot = max(slot, oldest_in_way + span)
    return slot


def _leaves_at(now: datetime) -> ColumnElement[datetime]:
    """When a post leaves or left. One of unknown outcome has left; its `due_at` is when it is looked for again."""
    return case((Post.state == PostState.UNCONFIRMED, func.least(Post.due_at, now)), else_=Post.due_at)


def after_quiet_hours(safety: SafetyConfig, moment: datetime) -> datetime:
    """The moment itself, or the end of the quiet hours that it falls in.

    >>> night = SafetyConfig(quiet_hours="22:00-06:30", time_zone="Europe/Berlin")
    >>> after_quiet_hours(night, datetime.fromisoformat("2026-01-10T02:00+00:00")).isoformat()
    '2026-01-10T05:30:00+00:00'
    >>> after_quiet_hours(night, datetime.fromisoformat("2026-01-10T12:00+00:00")).isoformat()
    '2026-01-10T12:00:00+00:00'
    """
    if safety.quiet_hours is None:
        return moment
    begin, end = (time.fromisoformat(part) for part in safety.quiet_hours.split("-"))
    zone = ZoneInfo(safety.time_zone)
    today = moment.astimezone(zone).date()
    for day in (today - timedelta(days=1), today):
        last = day + timedelta(days=1) if end < begin else day
        first_moment, last_moment = datetime.combine(day, begin, zone), datetime.combine(last, end, zone)
        if first_moment <= moment < last_moment:
            return last_moment.astimezone(UTC)
    return moment
