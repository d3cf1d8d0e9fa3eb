"""Drafts to posts: the state machine and the outbox.

    approved draft ──► queued ──► sending ──► posted      (in approval mode, approved by a person)
                         ▲           ├──────► dry          (XInteractor says nothing was sent)
                         │           ├──────► failed       (X refused it for good)
                         │           ├──────► rejected     (X does not let us, or the target is gone)
                         ├───────────┤                     (X certainly did not get it: later, once more)
                         │           └──────► unconfirmed  (nobody knows)
                         │                       ├───────► posted     (found on our own timeline)
                         └───────────────────────┘         (absent there twice; once only)
    queued ──► rejected  (too late, the bot was stopped, the target was forgotten)

    offered draft ──► awaited ──► posted    (in co-pilot mode a person sends it, and it is found on our own timeline)
                         └──────► rejected  (it never appeared, or the target was forgotten)

X has no idempotency key. So `sending` is committed before the request leaves, by one statement that only one worker
can win, and what is found in `sending` afterwards is looked for at X (`app/reconciliation.py`) and never sent again
blind.
"""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app import clock, conduct, earlier, events, forgotten, loops
from app.config import VibeBotConfig
from app.connectors.bot_db import BotDB
from app.measuring import AGES
from app.safety import Refusal, as_posted
from app.schedule import LoopName
from app.text import fits, text_hash
from app.x.capabilities import Ability, Capabilities
from app.x.errors import (
    AccountTrouble,
    BadRequest,
    Duplicate,
    Gone,
    NotAllowed,
    OutcomeUnknown,
    Retryable,
    XError,
)
from app.x.snowflake import snowflake_time
from app.x.types import Sent
from app.x_interactor import XInteractor
from dbs.models import Bot, Draft, DraftSample, Post, TimelinePost
from dbs.session import Database
from dbs.states import DraftState, Kind, PostState, SentBy

log = structlog.get_logger()

RETRY_AFTER = timedelta(minutes=2)
# How soon after an unknown outcome our own timeline is read for the first time.
LOOK_AFTER = timedelta(minutes=3)
CHANCE = random.Random()  # draws the pauses between posts


def queue_drafts(db: Database, config: VibeBotConfig) -> int:
    """Make an outbox row of every approved draft that may be said to its addressee now, and refuse the others.

    In approval mode those that no person approved wait, until it would be too late for them.

    Returns:
        The number of posts queued.
    """
    with db.transaction() as session:
        _give_up_waiting(session, config)
        draft_ids = session.scalars(
            select(Draft.draft_id)
            .where(Draft.bot_id == config.bot_id, Draft.state == DraftState.APPROVED)
            .order_by(Draft.created_at)
        ).all()
    queued = 0
    for draft_id in draft_ids:
        with db.transaction() as session:
            queued += _queue(db, session, config, draft_id)
    return queued


def _queue(db: Database, session: Session, config: VibeBotConfig, draft_id: uuid.UUID) -> bool:
    draft = session.scalars(
        select(Draft)
        .where(Draft.draft_id == draft_id, Draft.state == DraftState.APPROVED)
        .with_for_update(skip_locked=True)
    ).one_or_none()
    if draft is None:
        return False
    refusal = (
        _unanswerable(session, config, draft)
        or _beyond_us(db, session, config, draft)
        or _does_not_fit(config, draft)
        or _said_before_the_bot(session, config, draft)
    )
    if refusal is not None:
        _refuse(draft, refusal.rule, refusal.reason)
        return False
    if config.safety.approval and draft.approved_at is None:
        draft.state = DraftState.WAITING  # and all of the above is asked again when a person has approved it
        return False
    inserted = session.execute(
        insert(Post).values(outbox_row(session, config, draft)).on_conflict_do_nothing().returning(Post.post_id)
    ).scalar_one_or_none()
    if inserted is None:
        _refuse(draft, "already_said", "a live post has the same target or the same text")
        return False
    draft.state = DraftState.USED
    log.info("post.queued", post_id=str(inserted), draft_id=str(draft_id), kind=draft.kind)
    return True


def _give_up_waiting(session: Session, config: VibeBotConfig) -> None:
    for_a_person = Draft.state.in_((DraftState.WAITING, DraftState.OFFERED))
    waiting = select(Draft).where(Draft.bot_id == config.bot_id, for_a_person)
    for draft in session.scalars(waiting.with_for_update(skip_locked=True)):
        until = expiry(session, config, draft)
        if clock.now() > until:
            did = "approved" if draft.state == DraftState.WAITING else "chose"
            _refuse(draft, "too_late", f"nobody {did} it before {until.isoformat()}")


def _unanswerable(session: Session, config: VibeBotConfig, draft: Draft) -> Refusal | None:
    """Whether its addressee may not be spoken to now; a post of its own has none."""
    if draft.target_post_id is None:
        return None
    target = session.get(TimelinePost, (config.bot_id, draft.target_post_id))
    return conduct.refusal(session, config, target) if target else Refusal("target_gone", "the target was forgotten")


def _beyond_us(db: Database, session: Session, config: VibeBotConfig, draft: Draft) -> Refusal | None:
    """Whether X lets this account do it: known from the tier, or learnt from an earlier refusal."""
    summoned = _summoned(session, config.bot_id, draft.target_post_id)
    verdict = _capabilities(db, config).allows(_ability(draft.kind, summoned=summoned))
    return None if verdict.granted else Refusal("capability", verdict.reason or "X does not allow it")


def _does_not_fit(config: VibeBotConfig, draft: Draft) -> Refusal | None:
    """A text that a person changed was not asked for the room that the disclosure takes."""
    posted = as_posted(draft.content, config.safety)
    return None if fits(posted) else Refusal("too_long", "with safety.disclosure below it, X would not take it")


def _said_before_the_bot(session: Session, config: VibeBotConfig, draft: Draft) -> Refusal | None:
    """Whether the account has posted this text, or answered this post, while a person wrote for it."""
    before = earlier.like(session, config.bot_id, draft.content, draft.target_post_id)
    if before is None:
        return None
    return Refusal("already_said", f"post {before} of the account's archive has the same text or the same target")


def outbox_row(session: Session, config: VibeBotConfig, draft: Draft) -> dict[str, object]:
    """The columns of a draft's row in `bot_db`, to be sent by the bot as soon as the pace allows."""
    now = clock.now()
    sample = session.get_one(DraftSample, draft.draft_id)
    return {
        "post_id": uuid.uuid4(),
        "bot_id": config.bot_id,
        "content_gen_prompt": sample.prompt,
        "content": as_posted(draft.content, config.safety),
        "is_reply": draft.kind == Kind.REPLY,
        "kind": draft.kind,
        "target_post_id": draft.target_post_id,
        "target_author_id": draft.target_author_id,
        "draft_id": draft.draft_id,
        "checkpoint_id": draft.checkpoint_id,
        "persona_version": draft.persona_version,
        "edited": draft.edited,
        "sent_by": SentBy.BOT,
        "text_hash": text_hash(draft.content),
        "state": PostState.QUEUED,
        "queued_at": now,
        "due_at": conduct.next_slot(session, config, CHANCE),
        "expires_at": expiry(session, config, draft),
        "attempts": 0,
        "absent_reads": 0,
        "measure_step": 0,
    }


def expiry(session: Session, config: VibeBotConfig, draft: Draft) -> datetime:
    """When it is too late: counted from the target's own time, or from the draft's for a post of its own."""
    age = timedelta(minutes=config.loop.max_target_age)
    if draft.target_post_id is None:
        return draft.created_at + age
    return session.get_one(TimelinePost, (config.bot_id, draft.target_post_id)).created_at + age


def _refuse(draft: Draft, rule: str, reason: str) -> None:
    draft.state = DraftState.REJECTED
    draft.reject_rule, draft.reject_reason = rule, reason
    log.info("draft.refused", draft_id=str(draft.draft_id), rule=rule, reason=reason)


def due_posts(db: Database, config: VibeBotConfig, limit: int = 50) -> list[uuid.UUID]:
    """Posts whose moment has come, the oldest first; none while publishing is paused, and none in quiet hours."""
    if conduct.after_quiet_hours(config.safety, clock.now()) > clock.now():
        return []
    with db.transaction() as session:
        if loops.is_paused(session, config.bot_id, LoopName.PUBLISHING):
            return []
        return BotDB(session, config.bot_id).due_to_send(clock.now(), limit)


@dataclass(frozen=True)
class Claim:
    """A post that this process alone may send, and whether its target's author called the bot."""

    post: Post
    summoned: bool

    @property
    def ability(self) -> Ability:
        return _ability(self.post.kind, summoned=self.summoned)


def _ability(kind: str, *, summoned: bool) -> Ability:
    return Ability.REPLY_UNSUMMONED if kind == Kind.REPLY and not summoned else Ability(kind)


def send_post(db: Database, x: XInteractor, config: VibeBotConfig, post_id: uuid.UUID) -> PostState | None:
    """Send one queued post, exactly once whatever fails.

    Returns:
        The state that the post is in now, or None if it was not there to be sent: somebody else has it.
    """
    with structlog.contextvars.bound_contextvars(post_id=str(post_id)):
        with db.transaction() as session:
            claim = _claim(session, config, post_id)
        if claim is None:
            return None
        if claim.post.state != PostState.SENDING:
            return PostState(claim.post.state)
        try:
            sent = _request(x, claim)
        except XError as error:
            return _settle_error(db, config, claim, error)
        return _record_sent(db, config, claim, sent)


def _claim(session: Session, config: VibeBotConfig, post_id: uuid.UUID) -> Claim | None:
    """Move a due post from queued to sending, or to rejected if it must not go out; None if it is not ours."""
    forgotten.hold(session, config.bot_id)
    if loops.is_paused(session, config.bot_id, LoopName.PUBLISHING):
        return None  # it stays queued: a pause holds what has not left, whoever was told to send it
    post = BotDB(session, config.bot_id).claim_sending(post_id)
    if post is None:
        return None
    answered = {subject for subject in (post.target_post_id, post.target_author_id) if subject}
    bot = session.get_one(Bot, config.bot_id)
    if bot.stopped_at is not None:
        set_state(post, PostState.REJECTED, f"the bot was stopped: {bot.stop_reason}")
    elif forgotten.among(session, config.bot_id, answered):
        set_state(post, PostState.REJECTED, "its target was forgotten")
    elif (unwelcome := conduct.not_spoken_to(session, config.bot_id, post.target_author_id)) is not None:
        set_state(post, PostState.REJECTED, unwelcome.reason)
    elif post.expires_at is not None and clock.now() > post.expires_at:
        set_state(post, PostState.REJECTED, f"too late: it was to be sent before {post.expires_at.isoformat()}")
    return Claim(post, summoned=_summoned(session, config.bot_id, post.target_post_id))


def _summoned(session: Session, bot_id: str, target_post_id: str | None) -> bool:
    target = session.get(TimelinePost, (bot_id, target_post_id)) if target_post_id else None
    return target is not None and target.summons


def _request(x: XInteractor, claim: Claim) -> Sent:
    post = claim.post
    if post.kind == Kind.POST:
        return x.post_tweet(post.content)
    if post.target_post_id is None:
        raise BadRequest(f"a {post.kind} needs a target_post_id")
    if post.kind == Kind.QUOTE:
        return x.quote_tweet(post.target_post_id, post.content)
    return x.reply_to_tweet(post.target_post_id, post.content, summoned=claim.summoned)


def _settle_error(db: Database, config: VibeBotConfig, claim: Claim, error: XError) -> PostState:
    """What an error says about the post: certainly not there, certainly refused, or unknown."""
    post_id, now = claim.post.post_id, clock.now()
    match error:
        case OutcomeUnknown():
            return _settle(db, post_id, PostState.UNCONFIRMED, error, due_at=now + LOOK_AFTER)
        case Retryable():
            return _settle(db, post_id, PostState.QUEUED, error, due_at=error.retry_at or now + RETRY_AFTER)
        case AccountTrouble():
            # Nothing is wrong with the post: it goes out when a person has mended the account, if it is not too late.
            verdict = _capabilities(db, config).learn(claim.ability, error)
            due_at = verdict.retry_at if verdict else None
            return _settle(db, post_id, PostState.QUEUED, error, due_at=due_at or now + RETRY_AFTER)
        case NotAllowed():
            _capabilities(db, config).learn(claim.ability, error)
            return _settle(db, post_id, PostState.REJECTED, error)
        case Gone():
            return _settle(db, post_id, PostState.REJECTED, error)
        case Duplicate() if claim.post.attempts > 1:
            # X has the text already: an earlier attempt that seemed lost went through.
            return _settle(db, post_id, PostState.UNCONFIRMED, error, due_at=now)
        case _:
            return _settle(db, post_id, PostState.FAILED, error)


def _capabilities(db: Database, config: VibeBotConfig) -> Capabilities:
    return Capabilities(db, config.bot_id, config.budget.tier)


def set_state(post: Post, state: PostState, reason: str | None) -> None:
    """Move a post along one arrow of this module's drawing, in the caller's transaction."""
    post.state, post.state_reason = state, reason
    log.info("post.state", post_id=str(post.post_id), state=state.value, reason=reason)


def _settle(
    db: Database, post_id: uuid.UUID, state: PostState, error: XError, due_at: datetime | None = None
) -> PostState:
    with db.transaction() as session:
        post = session.get_one(Post, post_id, with_for_update=True)
        if post.state != PostState.SENDING:
            # The reconciliation found it while the answer was under way; what it found stands.
            return PostState(post.state)
        set_state(post, state, f"{type(error).__name__}: {error}")
        if due_at is not None:
            post.due_at = due_at
        if state is PostState.UNCONFIRMED:
            events.record(session, post.bot_id, "post.unconfirmed", str(post_id), reason=str(error))
        return state


def _record_sent(db: Database, config: VibeBotConfig, claim: Claim, sent: Sent) -> PostState:
    """Nothing that can raise stands between X's answer and this commit."""
    with db.transaction() as session:
        post = session.get_one(Post, claim.post.post_id, with_for_update=True)
        if sent.x_post_id is None:
            set_state(post, PostState.DRY, "dry run: nothing was sent")
            return PostState.DRY
        mark_posted(post, sent.x_post_id)
    _capabilities(db, config).confirm(claim.ability)
    return PostState.POSTED


def mark_posted(post: Post, x_post_id: str) -> None:
    """X has it: note its id, its time, and when to measure it first."""
    post.x_post_id = x_post_id
    post.post_time = snowflake_time(x_post_id)
    post.next_measure_at = post.post_time + AGES[0]
    set_state(post, PostState.POSTED, None)


def take_back(db: Database, x: XInteractor, config: VibeBotConfig, post_id: uuid.UUID) -> None:
    """Delete a post of ours at X and record it.

    Raises:
        LookupError: there is no such post, or it is not at X.
    """
    with db.transaction() as session:
        post = BotDB(session, config.bot_id).get(post_id)
    if post is None or post.x_post_id is None:
        raise LookupError(f"no post {post_id} of bot {config.bot_id!r} is at X")
    x.delete_tweet(post.x_post_id)
    with db.transaction() as session:
        post = session.get_one(Post, post_id, with_for_update=True)
        post.deleted_at, post.next_measure_at = clock.now(), None
        events.record(session, config.bot_id, "post.taken_back", str(post_id))
