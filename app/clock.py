"""Two kinds of time.

World time is when things happen at X: posts, ages, due moments, rate windows. A sandbox may run it
faster than a wall clock. Wall time is when things happen to our processes: leases, fences, time-outs;
nothing may speed it up. Both are aware and in UTC.

Every process of one deployment must agree on world time, so it is a pure function of wall time and of
the setting `EXPLORER_CLOCK`:

- unset, or `wall`: world time is wall time;
- `ANCHOR@SPEED`, e.g. `2026-01-05T08:00:00Z@120`: at the wall moment ANCHOR both clocks agreed, and world time has
  run SPEED times as fast ever since;
- `ANCHOR/WORLD@SPEED`: at the wall moment ANCHOR the world stood at WORLD. That is how a fast world goes on where it
  stood after a stop.

Beside that, one process may live in virtual time (`virtual`): a moment that stands still until it is told to jump. A
backtest does, with the sandbox in the same process, because no other process could agree.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

VARIABLE = "EXPLORER_CLOCK"


@dataclass(frozen=True)
class WorldClock:
    """World time as a linear function of wall time.

    Attributes:
        anchor: a wall moment.
        origin: the world time at that moment.
        speed: world seconds per wall second.
    """

    anchor: datetime
    origin: datetime
    speed: float

    def at(self, wall: datetime) -> datetime:
        return self.origin + (wall - self.anchor) * self.speed

    def setting(self) -> str:
        """The value of `EXPLORER_CLOCK` that makes another process agree with this one."""
        return f"{self.anchor.isoformat()}/{self.origin.isoformat()}@{self.speed:g}"


UNIX_EPOCH = datetime.fromtimestamp(0, UTC)
REAL = WorldClock(anchor=UNIX_EPOCH, origin=UNIX_EPOCH, speed=1.0)


@lru_cache(maxsize=8)
def parse(setting: str) -> WorldClock:
    """Read a value of `EXPLORER_CLOCK`.

    Raises:
        ValueError: naming the variable, the value and what it should look like.
    """
    if setting in {"", "wall"}:
        return REAL
    moments, _, speed_text = setting.rpartition("@")
    anchor_text, _, origin_text = moments.partition("/")
    wrong = ValueError(
        f"{VARIABLE}={setting!r}: expected 'wall', or 'ANCHOR@SPEED' or 'ANCHOR/WORLD@SPEED' with aware ISO times and "
        "a speed above 0 and up to 100000, e.g. '2026-01-05T08:00:00+00:00@120'"
    )
    try:
        anchor, speed = datetime.fromisoformat(anchor_text), float(speed_text)
        origin = datetime.fromisoformat(origin_text) if origin_text else anchor
    except ValueError:
        raise wrong from None
    if anchor.tzinfo is None or origin.tzinfo is None or not 0 < speed <= 100_000:
        raise wrong
    return WorldClock(anchor.astimezone(UTC), origin.astimezone(UTC), speed)


class VirtualTime:
    """A moment of world time that only moves when it is told to, and never back.

    Every thread of the process sees the same one.
    """

    def __init__(self, start: datetime) -> None:
        if start.tzinfo is None:
            raise ValueError(f"virtual time cannot start at {start}: it has no time zone; use an aware time")
        self._now = start.astimezone(UTC)

    def now(self) -> datetime:
        return self._now

    def jump(self, to: datetime) -> None:
        """Make it that moment now; one that has passed changes nothing.

        Raises:
            ValueError: the moment has no time zone.
        """
        if to.tzinfo is None:
            raise ValueError(f"virtual time cannot jump to {to}: it has no time zone; use an aware time")
        self._now = max(self._now, to.astimezone(UTC))


_virtual: VirtualTime | None = None


@contextmanager
def virtual(start: datetime) -> Iterator[VirtualTime]:
    """Let this process live in virtual time for the length of a block, whatever `EXPLORER_CLOCK` says.

    Raises:
        RuntimeError: it does already: two drivers would pull at one clock.
        ValueError: the start has no time zone.
    """
    global _virtual  # noqa: PLW0603 - a clock is one per process by its nature; threads must share it
    if _virtual is not None:
        raise RuntimeError("this process lives in virtual time already; leave that block first")
    _virtual = VirtualTime(start)
    try:
        yield _virtual
    finally:
        _virtual = None


def world() -> WorldClock:
    """The clock that this process lives by now. Virtual time is one that stands still: its speed is 0."""
    if _virtual is not None:
        return WorldClock(anchor=UNIX_EPOCH, origin=_virtual.now(), speed=0.0)
    return parse(os.environ.get(VARIABLE, ""))


def wall_now() -> datetime:
    """Wall time. For leases, fences, time-outs and what an operator reads in a log."""
    return datetime.now(UTC)


def now() -> datetime:
    """World time. For everything that happens at X."""
    return world().at(wall_now())


def speed() -> float:
    """World seconds per wall second; 0 in virtual time."""
    return world().speed


def wall_seconds(world_span: timedelta) -> float:
    """How many wall seconds a span of world time takes.

    Raises:
        RuntimeError: the process lives in virtual time, which does not pass by itself.
    """
    if speed() == 0:
        raise RuntimeError(f"{world_span} of virtual time does not pass by itself: jump there")
    return world_span.total_seconds() / speed()


def sleep_world(world_span: timedelta) -> None:
    """Let a span of world time pass. For scripts and tests; a worker never sleeps.

    Raises:
        RuntimeError: as `wall_seconds`.
    """
    time.sleep(max(0.0, wall_seconds(world_span)))
