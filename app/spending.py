"""What requests to X have come to by day, and where that leads. US dollars and world time, from the ledger.

What is under way counts at the most that it can cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app import clock
from dbs.models import LedgerEntry

DAYS = 30  # that are looked back on, and ahead
COST = func.sum(func.coalesce(LedgerEntry.cost_usd, LedgerEntry.reserved_usd))


def by_day(session: Session, bot_id: str) -> list[tuple[date, float]]:
    """Each UTC day of the last thirty on which something was asked, the oldest first, with what it came to."""
    day = func.date_trunc("day", LedgerEntry.at, "UTC")
    rows = session.execute(
        select(day, COST)
        .where(LedgerEntry.bot_id == bot_id, LedgerEntry.at > clock.now() - timedelta(days=DAYS))
        .group_by(day)
        .order_by(day)
    )
    return [(at.date(), float(spent)) for at, spent in rows]


def forecast(days: Sequence[tuple[date, float]]) -> float | None:
    """What thirty days come to at the pace of the whole days between these; None before there is one.

    The first day began somewhere in its middle, and the last is not over.
    """
    between = (days[-1][0] - days[0][0]).days - 1 if days else 0
    return DAYS * sum(spent for _, spent in days[1:-1]) / between if between > 0 else None
