"""Costs: what X was asked for and what it came to, by day and by end-point."""

from __future__ import annotations

from datetime import timedelta

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlalchemy import func, select

from app import clock
from app.console import charts
from app.console.rendering import bot_of, render
from app.console.security import SignedIn
from dbs.models import LedgerEntry

router = APIRouter(prefix="/costs", dependencies=[SignedIn])

DAYS = 30
COST = func.sum(func.coalesce(LedgerEntry.cost_usd, LedgerEntry.reserved_usd))


@router.get("")
def page(request: Request) -> Response:
    bot = bot_of(request)
    by_endpoint = (
        select(LedgerEntry.endpoint, func.count(), func.sum(LedgerEntry.units), COST)
        .where(LedgerEntry.bot_id == bot.config.bot_id, LedgerEntry.at > clock.now() - timedelta(days=DAYS))
        .group_by(LedgerEntry.endpoint)
        .order_by(COST.desc())
    )
    with bot.db.transaction() as session:
        endpoints = session.execute(by_endpoint).all()
    days = _by_day(request)
    # Of whole days only: the first began somewhere in its middle, and today is not over.
    whole = [spent for _, spent in days[1:-1]]
    forecast = 30 * sum(whole) / len(whole) if whole else None
    return render(request, "costs.html", endpoints=endpoints, days=days, forecast=forecast, span=DAYS)


@router.get("/days.svg")
def days_chart(request: Request) -> Response:
    return charts.svg(charts.bars("US dollars a day", _by_day(request)))


@router.get("/days.csv")
def days_table(request: Request) -> Response:
    return charts.csv(("day", "usd"), _by_day(request), "costs.csv")


def _by_day(request: Request) -> list[tuple[str, float]]:
    bot = bot_of(request)
    day = func.date_trunc("day", LedgerEntry.at)
    with bot.db.transaction() as session:
        rows = session.execute(
            select(day, COST)
            .where(LedgerEntry.bot_id == bot.config.bot_id, LedgerEntry.at > clock.now() - timedelta(days=DAYS))
            .group_by(day)
            .order_by(day)
        ).all()
    return [(f"{at:%Y-%m-%d}", float(spent)) for at, spent in rows]
