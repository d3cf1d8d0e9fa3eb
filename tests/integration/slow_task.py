"""A task that keeps a worker at work, for the tests of its health."""

from __future__ import annotations

import time

from app.celery import app


@app.task(name="tests.slow")
def slow(seconds: float) -> None:
    time.sleep(seconds)
