"""The proof that a node does its work: a task that answers whoever sent it (`workers/health.py`)."""

from __future__ import annotations

from typing import Any

from app.celery import app


@app.task(name="app.tasks.echo", bind=True)
def echo(self: Any, reply_to: str) -> None:
    """Put the node's name into the queue `reply_to`."""
    with app.producer_or_acquire() as producer:
        producer.publish(
            {"node": self.request.hostname}, exchange="", routing_key=reply_to, serializer="json", delivery_mode=1
        )
