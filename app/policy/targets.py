"""What the author reads: posts to judge and to answer, what stands above them, what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.orm import Session

from app import clock, conduct, earlier
from app.config import PersonaConfig, VibeBotConfig
from app.policy import pairs
from app.policy.prompts import PromptBuilder, Said, Target
from app.policy.writer import Job
from dbs.models import Bot, Capability, Community, Draft, Judgement, Membership, Post, TimelinePost
from dbs.states import DraftState, Kind, PostState, ReplyPolicy, SeenState

# Who addresses the bot, then the newest.
FIRST = (TimelinePost.summons.desc(), TimelinePost.created_at.desc())
LONGEST_THREAD = 6  # posts above the target that are looked up
RECENT_TEXTS = 50  # of ours, that a draft must not repeat


def expire(session: Session, config: VibeBotConfig) -> int:
    """Give up posts that are too old to be answered, judged or not; returns how many."""
    age = timedelta(minutes=config.loop.max_target_age)
    late = update(TimelinePost).where(
        TimelinePost.bot_id == config.bot_id,
        TimelinePost.state.in_((SeenState.SEEN, SeenState.SELECTED)),
        TimelinePost.created_at < clock.now() - age,
    )
    reason = f"older than {config.loop.max_target_age:g} minutes"
    done = session.execute(late.values(state=SeenState.EXPIRED, state_reason=reason).returning(TimelinePost.x_post_id))
    return len(done.all())


def unjudged(session: Session, bot_id: str, limit: int) -> Sequence[TimelinePost]:
    """Posts to be decided on: who addresses the bot first, then the newest, without those that stand in line.

    While another post of its author's or of its conversation is about to be answered, a post needs no judgement, and
    the cooldown may spare it one for good: of 1,367 posts that a backtest judged without regard to it, it answered 588.
    """
    line = _Line()
    rows = session.execute(
        select(
            TimelinePost.x_post_id,
            TimelinePost.state,
            TimelinePost.author_id,
            TimelinePost.conversation_id,
            TimelinePost.summons,
        )
        .where(TimelinePost.bot_id == bot_id, TimelinePost.state.in_((SeenState.SELECTED, SeenState.SEEN)))
        .order_by(TimelinePost.state == SeenState.SEEN, *FIRST)
    ).all()
    first = [row for row in rows if line.admits(row.author_id, row.conversation_id, summons=row.summons)]
    ids = [row.x_post_id for row in first if row.state == SeenState.SEEN][:limit]
    return session.scalars(
        select(TimelinePost).where(TimelinePost.bot_id == bot_id, TimelinePost.x_post_id.in_(ids)).order_by(*FIRST)
    ).all()


def still(session: Session, bot_id: str, x_post_ids: Sequence[str], state: SeenState) -> dict[str, TimelinePost]:
    """Those of the posts that are in a state, locked: while the model worked, another process may have been there."""
    rows = session.scalars(
        select(TimelinePost)
        .where(TimelinePost.bot_id == bot_id, TimelinePost.x_post_id.in_(x_post_ids), TimelinePost.state == state)
        .order_by(TimelinePost.x_post_id)
        .with_for_update()
    )
    return {row.x_post_id: row for row in rows}


def recent_scores(session: Session, bot_id: str, version: str, limit: int) -> list[float]:
    """Scores of the newest judgements of one version."""
    return list(
        session.scalars(
            select(Judgement.score)
            .where(Judgement.bot_id == bot_id, Judgement.judge_version == version)
            .order_by(Judgement.judged_at.desc())
            .limit(limit)
        )
    )


def unanswerable(session: Session, config: VibeBotConfig, posts: Sequence[TimelinePost]) -> dict[str, str]:
    """Why some posts are not to be answered whatever they say, by id. Asked again before anything is sent."""
    unsummoned = (
        config.safety.copilot or can(session, config.bot_id, "reply_unsummoned") or can(session, config.bot_id, "quote")
    )
    reasons = {}
    for post in posts:
        refusal = conduct.refusal(session, config, post)
        if refusal is not None:
            reasons[post.x_post_id] = f"{refusal.rule}: {refusal.reason}"
        elif not post.summons and not unsummoned:
            reasons[post.x_post_id] = "capability: X lets this account answer only who addresses it"
    return reasons


def can(session: Session, bot_id: str, capability: str) -> bool:
    """Whether nothing known speaks against using a capability now."""
    row = session.get(Capability, (bot_id, capability))
    return row is None or row.granted or (row.retry_at is not None and row.retry_at <= clock.now())


def next_targets(session: Session, config: VibeBotConfig, limit: int) -> list[TimelinePost]:
    """Posts to be answered now: who addresses the bot first, then the newest; scores have done their part.

    Who may not be answered any more is let go of. Of one author's posts one is taken at a time, and of one
    conversation's: once it is answered, the cooldown and the depth decide about the others.
    """
    waiting = session.scalars(
        select(TimelinePost)
        .where(TimelinePost.bot_id == config.bot_id, TimelinePost.state == SeenState.SELECTED)
        .order_by(*FIRST)
        .limit(4 * limit)
        .with_for_update(skip_locked=True)
    ).all()
    barred = unanswerable(session, config, waiting)
    for post in waiting:
        if post.x_post_id in barred:
            post.state, post.state_reason = SeenState.IGNORED, barred[post.x_post_id]
    line = _Line()
    return [
        post
        for post in waiting
        if post.x_post_id not in barred and line.admits(post.author_id, post.conversation_id, summons=post.summons)
    ][:limit]


class _Line:
    """Whose turn it is to be answered: one post of an author at a time, and one of a conversation."""

    def __init__(self) -> None:
        self._authors: set[str] = set()
        self._conversations: set[str] = set()

    def admits(self, author_id: str, conversation_id: str | None, *, summons: bool) -> bool:
        """Whether the next post waits for none of those that were admitted. Who calls the bot knows no cooldown."""
        if conversation_id in self._conversations or (not summons and author_id in self._authors):
            return False
        self._authors.add(author_id)
        if conversation_id is not None:
            self._conversations.add(conversation_id)
        return True


def recent_texts(session: Session, bot_id: str) -> list[str]:
    """Texts of ours that may stand on X or soon will; where they are few, those from before the bot as well."""
    own = list(
        session.scalars(
            select(Draft.content)
            .where(Draft.bot_id == bot_id, Draft.state.in_((DraftState.APPROVED, DraftState.WAITING, DraftState.USED)))
            .order_by(Draft.created_at.desc())
            .limit(RECENT_TEXTS)
        )
    )
    return own + earlier.texts(session, bot_id, RECENT_TEXTS - len(own))


class JobMaker:
    """Turns selected posts into jobs for the writer, in one transaction."""

    def __init__(self, session: Session, config: VibeBotConfig, prompts: PromptBuilder) -> None:
        self._session = session
        self._config = config
        self._prompts = prompts
        self._own_handle = session.get_one(Bot, config.bot_id).handle
        self._may_quote = can(session, config.bot_id, "quote")
        self._may_reply = can(session, config.bot_id, "reply_unsummoned")

    def make(self, post: TimelinePost, persona: PersonaConfig) -> list[Job]:
        """The job of answering one post; as many as a pair lacks, where a person is to choose."""
        author = self._session.get(Community, post.author_id)
        handle = author.handle if author else None
        thread = self._thread(post)
        target = Target(Said(handle, post.text), thread, author.account_summary if author else None)
        kind = self._kind(post)
        build = self._prompts.quote if kind is Kind.QUOTE else self._prompts.reply
        taking_part = {said.handle.lower() for said in [target.post, *thread] if said.handle}
        before = self._drafts_before(post)
        job = Job(
            kind=kind,
            prompt=build(persona, target),
            allowed_handles=frozenset(taking_part),
            source_texts=(post.text, *(said.text for said in thread)),
            for_a_person=pairs.is_for_a_person(self._config, post),
            facts=self._facts(post, author),
        )
        wanted = pairs.missing(self._session, self._config, post, before)
        return [replace(job, attempt=before + number) for number in range(1, wanted + 1)]

    def _kind(self, post: TimelinePost) -> Kind:
        """A share of the worthy posts is quoted. The same post always falls the same way: a second attempt, too."""
        if post.summons or pairs.is_for_a_person(self._config, post):
            return Kind.REPLY
        if not self._may_reply:
            return Kind.QUOTE
        roll = Random(f"{self._config.bot_id}:{post.x_post_id}").random()
        return Kind.QUOTE if self._may_quote and roll < self._config.loop.quote_share else Kind.REPLY

    def _drafts_before(self, post: TimelinePost) -> int:
        return self._session.execute(
            select(func.count())
            .select_from(Draft)
            .where(Draft.bot_id == post.bot_id, Draft.target_post_id == post.x_post_id)
        ).scalar_one()

    def _thread(self, post: TimelinePost) -> list[Said]:
        """The posts above one, the oldest first: those of others and our own, as far as they are known."""
        thread: list[Said] = []
        parent_id = post.in_reply_to_post_id
        while parent_id is not None and len(thread) < LONGEST_THREAD:
            above = self._session.get(TimelinePost, (post.bot_id, parent_id))
            if above is not None:
                author = self._session.get(Community, above.author_id)
                thread.append(Said(author.handle if author else None, above.text))
                parent_id = above.in_reply_to_post_id
                continue
            ours = self._session.scalars(
                select(Post).where(
                    Post.bot_id == post.bot_id, Post.x_post_id == parent_id, Post.state == PostState.POSTED
                )
            ).one_or_none()
            if ours is None:
                break
            thread.append(Said(self._own_handle, ours.content))
            parent_id = ours.target_post_id if ours.is_reply else None
        return thread[::-1]

    def _facts(self, post: TimelinePost, author: Community | None) -> dict[str, Any]:
        """What is known of the target before anything is written: what a reward may not be earned by."""
        judgement = None if post.summons else self._judgement(post)
        return {
            "target_post_id": post.x_post_id,
            "target_author_id": post.author_id,
            "judgement_id": judgement.judgement_id if judgement else None,
            "judge_score": judgement.score if judgement else None,
            "judge_version": judgement.judge_version if judgement else None,
            "selection_chance": judgement.selection_chance if judgement else 1.0,
            "target_likes": post.likes,
            "target_retweets": post.retweets,
            "target_replies": post.replies,
            "target_quotes": post.quotes,
            "target_impressions": post.impressions,
            "target_age_s": (clock.now() - post.created_at).total_seconds(),
            "target_velocity": velocity(post.likes, post.retweets, post.created_at, post.counts_at),
            "author_followers": author.followers if author else None,
        }

    def _judgement(self, post: TimelinePost) -> Judgement:
        """The newest one, by which it was selected."""
        return self._session.scalars(
            select(Judgement)
            .where(Judgement.bot_id == post.bot_id, Judgement.x_post_id == post.x_post_id)
            .order_by(Judgement.judged_at.desc())
            .limit(1)
        ).one()


def velocity(likes: int | None, retweets: int | None, created_at: datetime, counts_at: datetime | None) -> float | None:
    """Likes and reposts per hour of a post's life until they were counted; None where they never were.

    A life under a minute counts as one: two likes after a second are not 7,200 an hour.
    """
    if counts_at is None or (likes is None and retweets is None):
        return None
    hours = max((counts_at - created_at).total_seconds(), 60.0) / 3600
    return ((likes or 0) + (retweets or 0)) / hours


def heard(session: Session, bot_id: str, since: datetime, limit: int) -> list[tuple[str, str | None, str]]:
    """Author, handle and text of what others posted lately, the oldest first. Nobody who asked to be left alone."""
    rows = session.execute(
        select(TimelinePost.author_id, Community.handle, TimelinePost.text)
        .outerjoin(Community, Community.user_id == TimelinePost.author_id)
        .outerjoin(Membership, _member_of(bot_id))
        .where(TimelinePost.bot_id == bot_id, TimelinePost.created_at > since)
        .where(_left_in_peace())
        .order_by(TimelinePost.created_at.desc())
        .limit(limit)
    ).all()
    return [(author_id, handle, text) for author_id, handle, text in reversed(rows)]


def _member_of(bot_id: str) -> ColumnElement[bool]:
    return and_(Membership.user_id == TimelinePost.author_id, Membership.bot_id == bot_id)


def _left_in_peace() -> ColumnElement[bool]:
    welcome = and_(Membership.opted_out_at.is_(None), Membership.reply_policy != ReplyPolicy.BLOCK)
    return or_(Membership.user_id.is_(None), welcome)


def unsummarised(session: Session, bot_id: str, *, fewest_posts: int, before: datetime, limit: int) -> list[Community]:
    """Members of whom enough was read and whose summary is missing or older than `before`, the most read first."""
    posts = func.count(TimelinePost.x_post_id)
    ranked = (
        select(Membership.user_id, posts.label("posts"))
        .join(TimelinePost, and_(TimelinePost.author_id == Membership.user_id, TimelinePost.bot_id == bot_id))
        .where(Membership.bot_id == bot_id, _left_in_peace())
        .group_by(Membership.user_id)
        .having(posts >= fewest_posts)
        .subquery()
    )
    return list(
        session.scalars(
            select(Community)
            .join(ranked, ranked.c.user_id == Community.user_id)
            .where(or_(Community.summary_at.is_(None), Community.summary_at < before))
            .order_by(ranked.c.posts.desc(), Community.user_id)
            .limit(limit)
        )
    )


def texts_of(session: Session, bot_id: str, author_id: str, limit: int) -> list[str]:
    """The newest posts of an author, the oldest of them first."""
    newest = session.scalars(
        select(TimelinePost.text)
        .where(TimelinePost.bot_id == bot_id, TimelinePost.author_id == author_id)
        .order_by(TimelinePost.created_at.desc())
        .limit(limit)
    ).all()
    return list(reversed(newest))


def last_topics(session: Session, bot_id: str, limit: int) -> list[str]:
    """What our newest own posts were about."""
    return [
        topic
        for topic in session.scalars(
            select(Draft.topic)
            .where(Draft.bot_id == bot_id, Draft.kind == Kind.POST)
            .order_by(Draft.created_at.desc())
            .limit(limit)
        )
        if topic is not None
    ]
