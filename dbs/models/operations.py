"""What keeps the loops going: turns, leases, cursors, windows, money, capabilities, events."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import BigInteger, Identity, Index, Numeric
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from dbs.models.base import Base, JSONObject, bot_id


class Loop(Base):
    __tablename__ = "loops"
    __table_args__ = ({"comment": "One row per loop of a bot. A tick claims its turn by moving `next_due_at`."},)

    bot_id: Mapped[str] = bot_id(primary_key=True)
    loop: Mapped[str] = mapped_column(primary_key=True, comment="timeline, mentions, own_posts, engagement, ppo …")
    next_due_at: Mapped[datetime] = mapped_column(comment="World time of the next turn.")
    paused: Mapped[bool] = mapped_column(default=False, comment="Whether turns are refused.")
    paused_reason: Mapped[str | None] = mapped_column(comment="Who paused it and why.")
    started_at: Mapped[datetime | None] = mapped_column(comment="Wall time of the last turn's start.")
    finished_at: Mapped[datetime | None] = mapped_column(comment="Wall time of the last turn's end.")
    turns: Mapped[int] = mapped_column(default=0, comment="Turns finished.")
    last_error: Mapped[str | None] = mapped_column(comment="Why the last turn failed; NULL if it did not.")


class Lease(Base):
    __tablename__ = "leases"
    __table_args__ = (
        {"comment": "Locks that expire. Each taking raises `fence`, which ends the claims of older holders."},
    )

    bot_id: Mapped[str] = bot_id(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True, comment="What is locked, e.g. training.")
    owner: Mapped[str] = mapped_column(comment="Process that holds it.")
    fence: Mapped[int] = mapped_column(BigInteger, comment="Grows with every taking.")
    expires_at: Mapped[datetime] = mapped_column(comment="Wall time.")


class Cursor(Base):
    __tablename__ = "cursors"
    __table_args__ = ({"comment": "How far each list at X has been read."},)

    bot_id: Mapped[str] = bot_id(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True, comment="The list, e.g. timeline, mentions, user:123.")
    value: Mapped[str] = mapped_column(comment="Newest X id read.")
    updated_at: Mapped[datetime] = mapped_column(comment="World time.")


class RateWindow(Base):
    __tablename__ = "rate_windows"
    __table_args__ = (
        {
            "comment": "What X still allows, per account, end-point and span, reserved before and corrected after each request."
        },
    )

    account: Mapped[str] = mapped_column(primary_key=True, comment="X id of the account, or app for an app-wide limit.")
    endpoint: Mapped[str] = mapped_column(primary_key=True, comment="e.g. GET /2/tweets.")
    span_s: Mapped[int] = mapped_column(
        primary_key=True, autoincrement=False, comment="Length in seconds: 900 or 86400."
    )
    allowed: Mapped[int] = mapped_column(comment="Requests per window.")
    remaining: Mapped[int] = mapped_column(comment="Requests left.")
    resets_at: Mapped[datetime] = mapped_column(comment="World time at which it is full again.")
    updated_at: Mapped[datetime] = mapped_column(comment="World time.")


class LedgerEntry(Base):
    __tablename__ = "request_ledger"
    __table_args__ = (
        Index("ix_request_ledger_bot", "bot_id", "at"),
        {"comment": "Every request to X: what was reserved for it before it left and what it came to."},
    )

    entry_id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True, comment="Ours.")
    bot_id: Mapped[str] = bot_id()
    endpoint: Mapped[str] = mapped_column(comment="e.g. POST /2/tweets.")
    at: Mapped[datetime] = mapped_column(comment="World time of the reservation.")
    reserved_usd: Mapped[Decimal] = mapped_column(Numeric(12, 6), comment="The most it could cost.")
    cost_usd: Mapped[Decimal | None] = mapped_column(Numeric(12, 6), comment="What it came to; NULL while under way.")
    units: Mapped[int | None] = mapped_column(comment="Billable things returned; NULL while under way.")
    status: Mapped[int | None] = mapped_column(comment="HTTP status; NULL if no answer came.")
    outcome: Mapped[str | None] = mapped_column(comment="ok, dry, or the error's name; NULL while under way.")
    wall_ms: Mapped[float | None] = mapped_column(comment="How long it took, in milliseconds of wall time.")


class SpentDay(Base):
    __tablename__ = "spent_days"
    __table_args__ = (
        {"comment": "What the ledger of a day comes to, kept with it: the caps are asked before every request."},
    )

    bot_id: Mapped[str] = bot_id(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True, comment="UTC day of the world.")
    usd: Mapped[Decimal] = mapped_column(
        Numeric(14, 6), comment="US dollars; a request under way counts with the most it could cost."
    )


class Capability(Base):
    __tablename__ = "capabilities"
    __table_args__ = ({"comment": "What X lets this account do, by its access tier and by what X has answered."},)

    bot_id: Mapped[str] = bot_id(primary_key=True)
    capability: Mapped[str] = mapped_column(primary_key=True, comment="post, reply, quote, follow …")
    granted: Mapped[bool] = mapped_column(comment="Whether it may be tried.")
    source: Mapped[str] = mapped_column(comment="tier (known up front) or response (learnt from X).")
    reason: Mapped[str | None] = mapped_column(comment="What X said.")
    retry_at: Mapped[datetime | None] = mapped_column(comment="World time from which it is tried again.")
    updated_at: Mapped[datetime] = mapped_column(comment="World time.")


class Event(Base):
    __tablename__ = "events"
    __table_args__ = (
        Index("ix_events_bot", "bot_id", "at"),
        {"comment": "What an operator should be able to look up: pauses, promotions, lost capabilities, refusals."},
    )

    event_id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True, comment="Ours.")
    bot_id: Mapped[str] = bot_id()
    at: Mapped[datetime] = mapped_column(comment="Wall time.")
    kind: Mapped[str] = mapped_column(comment="e.g. persona.revised, checkpoint.promoted, capability.lost.")
    subject: Mapped[str | None] = mapped_column(comment="Id of what it is about.")
    detail: Mapped[JSONObject] = mapped_column(JSONB, comment="Facts, by name.")
