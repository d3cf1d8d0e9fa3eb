"""Waiting for what a running stack does by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol


class Tended(Protocol):
    """A stack with logs under its directory, whose dead services are restarted when it is tended."""

    directory: Path

    def tend(self) -> None: ...


def wait_for(stack: Tended, what: str, seconds: float, condition: Callable[[], bool]) -> None:
    """Tend the stack until something is so; fails where that takes longer."""
    assert becomes(stack, seconds, condition), f"no {what} within {seconds:.0f} s; logs in {stack.directory / 'logs'}"


def becomes(stack: Tended, seconds: float, condition: Callable[[], bool]) -> bool:
    """Tend the stack until something is so; False where that takes longer."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        stack.tend()
        time.sleep(0.5)
    return True
