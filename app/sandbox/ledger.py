"""What a real account would have paid. Prices of pay per use, https://docs.x.com/x-api/getting-started/pricing."""

from __future__ import annotations

from datetime import datetime

from app.sandbox.store import Store
from app.sandbox.wire import Answer

POST_READ_USD = 0.005
OWNED_READ_USD = 0.001
USER_READ_USD = 0.010
POST_USD = 0.015
LINK_POST_USD = 0.20
SUMMONED_USD = 0.010
INTERACTION_USD = 0.015


def book(store: Store, endpoint: str, answer: Answer, now: datetime) -> None:
    """Count a request and what it costs. What was read before on the same UTC day is free."""
    day = now.strftime("%Y-%m-%d")
    fresh_posts = store.first_reads(day, [f"post {i}" for i in answer.posts])
    fresh_users = store.first_reads(day, [f"user {i}" for i in answer.users])
    price = OWNED_READ_USD if answer.owned else POST_READ_USD
    store.count_call(endpoint, fresh_posts * price + fresh_users * USER_READ_USD + answer.usd)
