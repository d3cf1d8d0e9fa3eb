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
"""

from __future__ import annotations

import os
import time
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


def world() -> WorldClock:
    """The clock that this process was told to live by."""
    return parse(os.environ.get(VARIABLE, ""))


def wall_now() -> datetime:
    """Wall time. For leases, fences, time-outs and what an operator reads in a log."""
    return datetime.now(UTC)


def now() -> datetime:
    """World time. For everything that happens at X."""
    return world().at(wall_now())


def speed() -> float:
    """World seconds per wall second."""
    return world().speed


def wall_seconds(world_span: timedelta) -> float:
    """How many wall seconds a span of world time takes."""
    return world_span.total_seconds() / speed()


def sleep_world(world_span: timedelta) -> None:
    """Let a span of world time pass. For scripts and tests; a worker never sleeps."""
    time.sleep(max(0.0, wall_seconds(world_span)))
