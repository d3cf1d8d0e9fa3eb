"""Waiting for what a running stack does by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol


class Tended(Protocol):
    """What restarts dead services when it is tended."""

    def tend(self) -> None: ...


class Stack(Tended, Protocol):
    """It and its logs, which lie under its directory."""

    directory: Path


def wait_for(stack: Stack, what: str, seconds: float, condition: Callable[[], bool]) -> None:
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
