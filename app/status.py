"""What an operator wants to see at once: loops, posts by state, money."""

from __future__ import annotations

from datetime import timedelta

from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select

from app import approval, clock, copilot, spending
from app.context import BotContext
from dbs.models import Bot, LedgerEntry, Loop, Post


def loops_table(context: BotContext) -> Table:
    """Each loop: when it is due, how often it ran, what went wrong."""
    table = Table("loop", "due in", "turns", "last error", title=f"{context.config.bot_id}: loops")
    with context.db.transaction() as session:
        rows = session.scalars(select(Loop).where(Loop.bot_id == context.config.bot_id).order_by(Loop.loop))
        for row in rows:
            wait = max(timedelta(), row.next_due_at - clock.now())
            due = f"paused: {row.paused_reason}" if row.paused else str(timedelta(seconds=round(wait.total_seconds())))
            table.add_row(row.loop, due, str(row.turns), row.last_error or "")
    return table


def posts_table(context: BotContext) -> Table:
    """How many posts of ours are in each state."""
    table = Table("state", "posts", title="posts")
    with context.db.transaction() as session:
        rows = session.execute(
            select(Post.state, func.count()).where(Post.bot_id == context.config.bot_id).group_by(Post.state)
        )
        for state, number in rows:
            table.add_row(state, str(number))
    return table


def spent_table(context: BotContext) -> Table:
    """What requests to X have come to, against the caps. Spans are world time, as X bills them."""
    budget = context.config.budget
    table = Table("span", "requests", "spent, $", "cap, $", title="requests to X")
    with context.db.transaction() as session:
        for name, days, cap in (("24 hours", 1, budget.max_usd_per_day), ("30 days", 30, budget.max_usd_per_month)):
            requests, spent = session.execute(
                select(func.count(), func.coalesce(func.sum(LedgerEntry.cost_usd), 0)).where(
                    LedgerEntry.bot_id == context.config.bot_id, LedgerEntry.at > clock.now() - timedelta(days=days)
                )
            ).one()
            table.add_row(name, str(requests), f"{spent:.3f}", f"{cap:g}")
        ahead = spending.forecast(spending.by_day(session, context.config.bot_id))
    at_this_pace = "not known before a whole day is over" if ahead is None else f"{ahead:.3f}"
    table.add_row("next 30 days, at this pace", "", at_this_pace, f"{budget.max_usd_per_month:g}")
    return table


def show(context: BotContext) -> None:
    """Print everything."""
    console = Console()
    with context.db.transaction() as session:
        bot = session.get_one(Bot, context.config.bot_id)
    console.print("live" if context.config.live else "dry run: nothing is posted")
    if bot.stopped_at:
        console.print(f"stopped: {bot.stop_reason}")
    if context.config.safety.approval:
        with context.db.transaction() as session:
            console.print(approval.summary(approval.waiting(session, context.config.bot_id)))
    with context.db.transaction() as session:
        offered, awaited = copilot.offers(session, context.config), copilot.awaited(session, context.config.bot_id)
    if context.config.safety.copilot or offered or awaited:
        console.print(copilot.summary(offered, awaited))
    for table in (loops_table(context), posts_table(context), spent_table(context)):
        console.print(table)
