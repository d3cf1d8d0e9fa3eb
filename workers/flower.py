"""Flower with everything behind its password: `python -m workers.flower [OPTIONS OF FLOWER]`.

Flower itself leaves `/metrics` open to whoever reaches its port, whatever its other pages ask for.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from flower.urls import handlers
from flower.views.monitor import Metrics
from tornado import web

from app import app

PASSWORD = "FLOWER_BASIC_AUTH"  # noqa: S105 - the variable's name


class ClosedMetrics(Metrics):  # type: ignore[misc]  # Flower ships no types
    """The metrics, for those who have the password."""

    @web.authenticated
    async def get(self) -> Any:
        await super().get()


def main() -> None:
    if ":" not in os.environ.get(PASSWORD, ""):
        raise SystemExit(f"{PASSWORD} is not set: give it as USER:PASSWORD; Flower can end and send tasks")
    # The first that matches is taken.
    handlers.insert(0, ("/metrics", ClosedMetrics))
    app.start(["flower", *sys.argv[1:]])


if __name__ == "__main__":
    main()
