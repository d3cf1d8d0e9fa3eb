"""Gathering the data set on a running stack. One message per page, so that the I/O workers share them."""

from __future__ import annotations

import uuid

from app.celery import app
from app.context import BotContext, process_context
from app.data.claims import LEASE
from app.data.fanout import hand_out, read_page


@app.task(name="app.tasks.data_set")
def data_set() -> None:
    """Ask for the pages that may be read now. The kick-off sends this; so may a person, and nothing happens twice."""
    send_pages(process_context())


@app.task(name="app.tasks.data_set_page")
def data_set_page(claim_id: str) -> None:
    bot = process_context()
    read_page(bot, uuid.UUID(claim_id))
    # One that failed is not followed by another: the next tick comes soon enough.
    send_pages(bot)


def send_pages(bot: BotContext) -> None:
    """A message for each page that is free. One that is still there when its claim lapses is worth nothing."""
    for claim_id in hand_out(bot):
        app.send_task("app.tasks.data_set_page", args=[str(claim_id)], expires=LEASE.total_seconds())
