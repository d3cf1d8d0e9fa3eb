"""What was spent by day, and what that leads to, which the console and `explorer status` tell."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from app import clock, spending
from dbs.models import Bot, LedgerEntry
from dbs.session import Database

NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
Spend = Callable[[timedelta, str | None, str], None]


@pytest.fixture
def spend(database: Database, bot: Bot) -> Spend:
    """Books a request so long before noon: what it came to (None while it is under way), and the most it could."""

    def book(before: timedelta, cost: str | None, reserved: str) -> None:
        with database.transaction() as session:
            session.add(LedgerEntry(
                bot_id=bot.bot_id, endpoint="GET /2/tweets", at=NOON - before, reserved_usd=Decimal(reserved),
                cost_usd=Decimal(cost) if cost else None,
            ))  # fmt: skip

    return book


def days_of(database: Database, bot: Bot) -> list[tuple[str, float]]:
    with clock.virtual(NOON), database.transaction() as session:
        return [(f"{day}", spent) for day, spent in spending.by_day(session, bot.bot_id)]


def test_days_are_utc_days_and_what_is_under_way_counts_at_its_most(database: Database, bot: Bot, spend: Spend) -> None:
    spend(timedelta(hours=11, minutes=59), "0.10", "0.50")
    spend(timedelta(hours=12, minutes=1), "0.20", "0.50")
    spend(timedelta(minutes=1), None, "0.50")
    spend(timedelta(days=40), "9.00", "9.00")
    assert days_of(database, bot) == [("2026-03-03", 0.2), ("2026-03-04", 0.6)]


def test_only_whole_days_say_what_is_to_come(database: Database, bot: Bot, spend: Spend) -> None:
    spend(timedelta(days=1), "7.00", "7.00")
    spend(timedelta(0), "5.00", "5.00")  # today
    with clock.virtual(NOON), database.transaction() as session:
        assert spending.forecast(spending.by_day(session, bot.bot_id)) is None
    spend(timedelta(days=4), "9.00", "9.00")  # the day on which it was started
    spend(timedelta(days=2), "1.00", "1.00")  # and nothing on the day before
    with clock.virtual(NOON), database.transaction() as session:
        assert spending.forecast(spending.by_day(session, bot.bot_id)) == pytest.approx(30 * 8 / 3)
