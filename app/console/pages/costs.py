"""Costs: what X was asked for and what it came to, by day and by end-point."""

from __future__ import annotations

from datetime import timedelta

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlalchemy import func, select

from app import clock, spending
from app.console import charts
from app.console.rendering import bot_of, render
from app.console.security import SignedIn
from dbs.models import LedgerEntry

router = APIRouter(prefix="/costs", dependencies=[SignedIn])


@router.get("")
def page(request: Request) -> Response:
    bot = bot_of(request)
    by_endpoint = (
        select(LedgerEntry.endpoint, func.count(), func.sum(LedgerEntry.units), spending.COST)
        .where(LedgerEntry.bot_id == bot.config.bot_id, LedgerEntry.at > clock.now() - timedelta(days=spending.DAYS))
        .group_by(LedgerEntry.endpoint)
        .order_by(spending.COST.desc())
    )
    with bot.db.transaction() as session:
        endpoints = session.execute(by_endpoint).all()
        days = spending.by_day(session, bot.config.bot_id)
    ahead = spending.forecast(days)
    return render(request, "costs.html", endpoints=endpoints, days=days, forecast=ahead, span=spending.DAYS)


@router.get("/days.svg")
def days_chart(request: Request) -> Response:
    return charts.svg(charts.bars("US dollars a day", _by_day(request)))


@router.get("/days.csv")
def days_table(request: Request) -> Response:
    return charts.csv(("day", "usd"), _by_day(request), "costs.csv")


def _by_day(request: Request) -> list[tuple[str, float]]:
    bot = bot_of(request)
    with bot.db.transaction() as session:
        return [(day.isoformat(), spent) for day, spent in spending.by_day(session, bot.config.bot_id)]
