"""What a real account would have paid, and what is left of what it bought.

Prices of pay per use, https://docs.x.com/x-api/getting-started/pricing. Every tier's requests are booked at them, so
that runs can be compared.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, get_args

from app.sandbox.problems import Json
from app.sandbox.settings import Settings
from app.sandbox.store import Store
from app.sandbox.wire import Answer, Item

PRICES_USD: dict[Item, float] = dict(zip(get_args(Item), (0.005, 0.001, 0.010, 0.015, 0.20, 0.010, 0.015), strict=True))
REQUEST = "request"


def book(store: Store, endpoint: str, answer: Answer, now: datetime) -> None:
    """Book a request and what it costs. What was read before on the same UTC day is free."""
    day = now.strftime("%Y-%m-%d")
    store.book(day, endpoint, REQUEST, 1, 0.0)
    units: dict[Item, int] = {
        "owned read" if answer.owned else "post read": store.first_reads(day, [f"post {i}" for i in answer.posts]),
        "user read": store.first_reads(day, [f"user {i}" for i in answer.users]),
    }
    if answer.item is not None:
        units[answer.item] = 1
    for item, count in units.items():
        if count:
            store.book(day, endpoint, item, count, count * PRICES_USD[item])


def report(store: Store) -> dict[str, Any]:
    """The whole ledger: what was paid by day, endpoint and item, and what is left (US dollars)."""
    usd, bought = store.paid(), store.bought()
    return {
        "usd": round(usd, 4),
        "credits_left": None if bought is None else round(bought - usd, 4),
        "rows": store.ledger(),
    }


def depleted(store: Store) -> bool:
    """Whether credits were bought and are spent. Without any, nothing ends."""
    bought = store.bought()
    return bought is not None and store.paid() >= bought


def refusal(settings: Settings) -> Json:
    """The body of a 402."""
    return {
        "account_id": settings.bot_id,
        "title": "CreditsDepleted",
        "detail": f"Your enrolled account [{settings.bot_id}] does not have any credits to fulfill this request.",
        "type": "https://api.x.com/2/problems/credits-depleted",
        "status": 402,
    }
