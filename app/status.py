"""What an operator wants to see at once: loops, posts by state, money. Once, again and again, or as JSON."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app import approval, clock, copilot, earlier, spending
from app.config import VibeBotConfig
from app.context import BotContext
from dbs.models import Bot, LedgerEntry, Loop, Post

NOT_YET = "not known before a whole day is over"


@dataclass(frozen=True)
class LoopStatus:
    """One loop. `due_in` is seconds of world time, 0 if its turn is due; paused loops have no such moment."""

    loop: str
    due_in: float | None
    paused: str | None
    turns: int
    last_error: str | None


@dataclass(frozen=True)
class Spent:
    """What the requests of a span of world time came to, in US dollars, against its cap."""

    span: str
    requests: int
    usd: float
    cap_usd: float


@dataclass(frozen=True)
class Status:
    """A moment of a bot.

    Attributes:
        at: world time.
        notes: what somebody should know first: dry, stopped, what waits for a person.
        posts: by state.
        next_30_days_usd: at the pace of the whole days so far; None before there is one.
    """

    bot_id: str
    at: datetime
    live: bool
    notes: list[str]
    loops: list[LoopStatus]
    posts: dict[str, int]
    spent: list[Spent]
    next_30_days_usd: float | None


def status_of(context: BotContext) -> Status:
    """The bot as it is now."""
    config, now = context.config, clock.now()
    with context.db.transaction() as session:
        by_state = (
            select(Post.state, func.count().label("number")).where(Post.bot_id == config.bot_id).group_by(Post.state)
        )
        return Status(
            bot_id=config.bot_id,
            at=now,
            live=config.live,
            notes=_notes(session, config),
            loops=_loops(session, config.bot_id, now),
            posts={row.state: row.number for row in session.execute(by_state.order_by(Post.state))},
            spent=_spent(session, config, now),
            next_30_days_usd=spending.forecast(spending.by_day(session, config.bot_id)),
        )


def loops_table(status: Status) -> Table:
    """Each loop: when it is due, how often it ran, what went wrong."""
    table = Table("loop", "due in", "turns", "last error", title=f"{status.bot_id}: loops")
    for row in status.loops:
        due = f"paused: {row.paused}" if row.due_in is None else str(timedelta(seconds=round(row.due_in)))
        table.add_row(row.loop, due, str(row.turns), row.last_error or "")
    return table


def shown(status: Status) -> RenderableType:
    """The whole of it for the terminal."""
    posts = Table("state", "posts", title="posts")
    for state, number in status.posts.items():
        posts.add_row(state, str(number))
    money = Table("span", "requests", "spent, $", "cap, $", title="requests to X")
    for span in status.spent:
        money.add_row(span.span, str(span.requests), f"{span.usd:.3f}", f"{span.cap_usd:g}")
    ahead = NOT_YET if status.next_30_days_usd is None else f"{status.next_30_days_usd:.3f}"
    money.add_row("next 30 days, at this pace", "", ahead, f"{status.spent[-1].cap_usd:g}")
    return Group(*status.notes, loops_table(status), posts, money)


def watch(context: BotContext, seconds: float) -> None:
    """Draw the status anew every so many seconds of wall time, until somebody interrupts."""
    with Live(shown(status_of(context)), console=Console(), auto_refresh=False) as live:
        while True:
            time.sleep(seconds)
            live.update(shown(status_of(context)), refresh=True)


def _notes(session: Session, config: VibeBotConfig) -> list[str]:
    bot = session.get_one(Bot, config.bot_id)
    notes = ["live" if config.live else "dry run: nothing is posted"]
    if bot.stopped_at:
        notes.append(f"stopped: {bot.stop_reason}")
    if config.safety.approval:
        notes.append(approval.summary(approval.waiting(session, config.bot_id)))
    offered, awaited = copilot.offers(session, config), copilot.awaited(session, config.bot_id)
    if config.safety.copilot or offered or awaited:
        notes.append(copilot.summary(offered, awaited))
    if (before := earlier.summary(session, config.bot_id)) is not None:
        notes.append(str(before))
    return notes


def _loops(session: Session, bot_id: str, now: datetime) -> list[LoopStatus]:
    rows = session.scalars(select(Loop).where(Loop.bot_id == bot_id).order_by(Loop.loop))
    return [
        LoopStatus(
            row.loop,
            None if row.paused else max(0.0, (row.next_due_at - now).total_seconds()),
            row.paused_reason if row.paused else None,
            row.turns,
            row.last_error,
        )
        for row in rows
    ]


def _spent(session: Session, config: VibeBotConfig, now: datetime) -> list[Spent]:
    spent = []
    caps = (("24 hours", 1, config.budget.max_usd_per_day), ("30 days", 30, config.budget.max_usd_per_month))
    for span, days, cap in caps:
        requests, usd = session.execute(
            select(func.count(), func.coalesce(spending.COST, 0)).where(
                LedgerEntry.bot_id == config.bot_id, LedgerEntry.at > now - timedelta(days=days)
            )
        ).one()
        spent.append(Spent(span, requests, float(usd), cap))
    return spent
