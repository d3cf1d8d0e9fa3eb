"""The jump start: the data set with its cursors, what must never come back into it, and the steps of the kick-off."""

from __future__ import annotations

import uuid
from datetime import datetime
from decimal import Decimal

from sqlalchemy import BigInteger, Index, Numeric
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from dbs.models.base import Base, JSONObject, bot_id, one_of
from dbs.states import DataSetState, SourceState, StepState


class DataSet(Base):
    __tablename__ = "data_sets"
    __table_args__ = (
        one_of("state", DataSetState),
        {
            "comment": "The data set of the jump start, one per bot. `files` says which bytes of each file count; what stands "
            "behind them was written by a process that died before it committed, and is written over."
        },
    )

    bot_id: Mapped[str] = bot_id(primary_key=True)
    state: Mapped[str] = mapped_column(comment="open or complete.")
    reason: Mapped[str | None] = mapped_column(comment="Which limit ended it, or what it waits for.")
    settings: Mapped[JSONObject] = mapped_column(
        JSONB, comment="The source and the filters it was begun with; others need a new data set."
    )
    files: Mapped[list[JSONObject]] = mapped_column(
        JSONB,
        comment="Per file, in order: bytes that count (the closing bracket not among them), posts, and, where machines "
        "share a store, the edition: which copy wrote it last.",
    )
    posts: Mapped[int] = mapped_column(BigInteger, comment="Posts kept.")
    characters: Mapped[int] = mapped_column(BigInteger, comment="Characters of their texts; four are about a token.")
    dropped: Mapped[JSONObject] = mapped_column(JSONB, comment="Posts dropped, by reason.")
    usd: Mapped[Decimal] = mapped_column(Numeric(12, 6), comment="What the pages that count have cost, in US dollars.")
    before_id: Mapped[str | None] = mapped_column(
        comment="X id that every post is older than: the moment it was begun; NULL for other sources."
    )
    agreed: Mapped[JSONObject | None] = mapped_column(
        JSONB, comment="The estimate that a person agreed to; NULL before."
    )
    asked_to: Mapped[int] = mapped_column(
        BigInteger,
        default=0,
        comment="Position in the files up to which X was asked whether it still shows the posts; 0 begins a new round.",
    )
    by_workers: Mapped[bool] = mapped_column(
        default=False,
        comment="Whether the I/O workers gather it, as the kick-off has them do, or whoever called for it alone.",
    )
    waits_until: Mapped[datetime | None] = mapped_column(
        comment="World time before which the workers ask for no page; NULL if they need not wait."
    )
    begun_at: Mapped[datetime] = mapped_column(comment="World time.")
    updated_at: Mapped[datetime] = mapped_column(comment="Wall time of the last page.")


class DataSetAccount(Base):
    __tablename__ = "data_set_accounts"
    __table_args__ = (
        one_of("state", SourceState),
        Index("ix_data_set_accounts_turn", "bot_id", "turns", "position"),
        {"comment": "How far each account has been read into the data set. Whoever has had the fewest turns is next."},
    )

    bot_id: Mapped[str] = bot_id(primary_key=True)
    account: Mapped[str] = mapped_column(primary_key=True, comment="X id of the account, or a name of the source's.")
    position: Mapped[int] = mapped_column(comment="Its place in the round.")
    state: Mapped[str] = mapped_column(comment="reading, exhausted, protected, or gone.")
    reason: Mapped[str | None] = mapped_column(comment="What X said where it cannot be read.")
    cursor: Mapped[str | None] = mapped_column(comment="Where its next page begins; NULL at the first.")
    turns: Mapped[int] = mapped_column(comment="Pages read.")
    read: Mapped[int] = mapped_column(comment="Posts read.")
    kept: Mapped[int] = mapped_column(comment="Posts kept.")
    claim_id: Mapped[uuid.UUID | None] = mapped_column(
        comment="Whose its next page is: first of the message that asks for it, then of the worker that reads it."
    )
    claimed_until: Mapped[datetime | None] = mapped_column(
        comment="Wall time at which that claim lapses; NULL where there is none."
    )
    updated_at: Mapped[datetime] = mapped_column(comment="Wall time.")


class EarlierPost(Base):
    __tablename__ = "earlier_posts"
    __table_args__ = (
        Index("ix_earlier_posts_newest", "bot_id", "posted_at"),
        Index("ix_earlier_posts_text", "bot_id", "text_hash"),
        Index("ix_earlier_posts_target", "bot_id", "target_post_id"),
        {
            "comment": "What the bot's account posted before the bot wrote for it, from the archive that X hands out. Not in "
            "`bot_db`, whose every row says which weights, persona and prompt made it: nothing is learnt from these, "
            "they are measured no more, and nothing sends them again."
        },
    )

    bot_id: Mapped[str] = bot_id(primary_key=True)
    x_post_id: Mapped[str] = mapped_column(primary_key=True, comment="X id.")
    content: Mapped[str] = mapped_column(comment="The text posted.")
    text_hash: Mapped[str] = mapped_column(
        comment="SHA-256 of the canonical text without the handles in front: what X would call a duplicate."
    )
    posted_at: Mapped[datetime] = mapped_column(comment="When X published it.")
    lang: Mapped[str | None] = mapped_column(comment="Language as X detected it.")
    target_post_id: Mapped[str | None] = mapped_column(comment="X id of the post answered; NULL if it answers none.")
    likes: Mapped[int | None] = mapped_column(comment="Likes when the archive was made.")
    retweets: Mapped[int | None] = mapped_column(comment="Reposts without a comment, likewise.")
    read_at: Mapped[datetime] = mapped_column(comment="Wall time at which these counts were read from an archive.")


class Forgotten(Base):
    __tablename__ = "forgotten"
    __table_args__ = (
        {
            "comment": "Posts and users that were removed and must not come back. A prompt of ours that held such words is "
            "replaced by a note in `bot_db`, and has no row in `draft_samples` any more."
        },
    )

    bot_id: Mapped[str] = bot_id(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True, comment="X id of the post or user.")
    reason: Mapped[str] = mapped_column(comment="by hand, or no longer shown by X.")
    at: Mapped[datetime] = mapped_column(comment="Wall time.")
    cleared_at: Mapped[datetime | None] = mapped_column(
        comment="Wall time at which it was out of the files, too; NULL until then."
    )


class KickoffStep(Base):
    __tablename__ = "kickoff_steps"
    __table_args__ = (
        one_of("state", StepState),
        {"comment": "The steps of the kick-off and how each went. A step that is done is not done again."},
    )

    bot_id: Mapped[str] = bot_id(primary_key=True)
    step: Mapped[str] = mapped_column(primary_key=True, comment="databases, community, data_set, sft, loops.")
    state: Mapped[str] = mapped_column(comment="running, done, skipped or failed.")
    detail: Mapped[str | None] = mapped_column(comment="What it came to, or why it was skipped or failed.")
    attempts: Mapped[int] = mapped_column(comment="Times it was begun.")
    started_at: Mapped[datetime] = mapped_column(comment="Wall time of the last attempt.")
    finished_at: Mapped[datetime | None] = mapped_column(comment="Wall time; NULL while it runs.")
