"""The words that state columns may hold. Each is stored as text and checked by the database."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """What the bot can do with a text."""

    REPLY = "reply"
    POST = "post"
    QUOTE = "quote"


class SeenState(StrEnum):
    """The life of a post that the bot reads."""

    SEEN = "seen"  # stored, not decided on yet
    SELECTED = "selected"  # to be answered: judged worthy, or it addresses the bot
    IGNORED = "ignored"  # not to be answered: judged unworthy, or its author may not be spoken to
    DRAFTED = "drafted"  # has at least one approved draft
    GIVEN_UP = "given_up"  # every draft was refused
    EXPIRED = "expired"  # too old, or gone, before it was answered
    CONTEXT = "context"  # kept because another post hangs below it; never answered itself


class Source(StrEnum):
    """How a post of somebody else came to us."""

    TIMELINE = "timeline"
    MENTION = "mention"
    THREAD = "thread"


class DraftState(StrEnum):
    APPROVED = "approved"  # may be posted; waits for publishing
    WAITING = "waiting"  # for a person, in approval mode
    OFFERED = "offered"  # to a person beside another, in co-pilot mode; the bot never sends it
    REJECTED = "rejected"  # refused by form, safety or a person
    USED = "used"  # became a post


class PostState(StrEnum):
    """The life of a post of ours; the arrows are in `app/posting.py`."""

    QUEUED = "queued"
    SENDING = "sending"
    POSTED = "posted"
    UNCONFIRMED = "unconfirmed"
    FAILED = "failed"
    REJECTED = "rejected"
    DRY = "dry"
    AWAITED = "awaited"  # given to a person to post, and looked for on our own timeline


class SentBy(StrEnum):
    BOT = "bot"
    PERSON = "person"


class Arm(StrEnum):
    """Which policy wrote a draft, as assigned by chance before it was written."""

    INCUMBENT = "incumbent"
    CANARY = "canary"
    REFERENCE = "reference"


class FollowState(StrEnum):
    WANTED = "wanted"
    FOLLOWING = "following"
    PENDING = "pending"  # a protected account has to agree
    UNAVAILABLE = "unavailable"  # X does not let us
    MET = "met"  # not on the list; met in a conversation


class ReplyPolicy(StrEnum):
    REPLY = "reply"
    WATCH = "watch"
    BLOCK = "block"


class HandleState(StrEnum):
    PENDING = "pending"
    RESOLVED = "resolved"
    NOT_FOUND = "not_found"


class PersonaState(StrEnum):
    CURRENT = "current"
    SUPERSEDED = "superseded"
    REFUSED = "refused"  # a person took it back


class CheckpointKind(StrEnum):
    BASE = "base"  # the model as published: an empty stack of adapters
    SFT = "sft"
    PPO = "ppo"
    DPO = "dpo"


class CheckpointState(StrEnum):
    CANDIDATE = "candidate"
    CANARY = "canary"
    SERVED = "served"  # was let through; may be current
    REFUSED = "refused"


class RunKind(StrEnum):
    SFT = "sft"
    PPO = "ppo"
    DPO = "dpo"


class RunState(StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    STOPPED = "stopped"  # ended by a rule of its own, e.g. the effective sample size
    FAILED = "failed"


class DataSetState(StrEnum):
    OPEN = "open"  # being gathered, or waiting to be gone on with
    COMPLETE = "complete"


class SourceState(StrEnum):
    READING = "reading"
    EXHAUSTED = "exhausted"  # the source gives no older post
    PROTECTED = "protected"
    GONE = "gone"  # suspended or deleted


class StepState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
