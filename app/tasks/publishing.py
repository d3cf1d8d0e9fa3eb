"""From approved drafts to posts at X. One message per post, so that the I/O workers share them."""

from __future__ import annotations

import uuid

from app.celery import app
from app.context import process_context
from app.posting import due_posts, send_post
from app.schedule import LoopName
from app.tasks.turn import take_turn


@app.task(name="app.tasks.publishing")
def publishing(scheduled: bool = False) -> None:
    take_turn(LoopName.PUBLISHING, scheduled=scheduled)
    bot = process_context()
    for post_id in due_posts(bot.db, bot.config):
        app.send_task("app.tasks.send", args=[str(post_id)], expires=600)


@app.task(name="app.tasks.send")
def send(post_id: str) -> None:
    bot = process_context()
    send_post(bot.db, bot.x, bot.config, uuid.UUID(post_id))


@app.task(name="app.tasks.reconciliation")
def reconciliation(scheduled: bool = False) -> None:
    take_turn(LoopName.RECONCILIATION, scheduled=scheduled)
