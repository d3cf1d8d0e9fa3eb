"""How much memory a process has resident over time, and whether that grows."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benchmarks.row import Point

SAMPLES_A_SECOND = 4
KEPT = 300  # points of a plot


@contextmanager
def resident_memory() -> Iterator[list[Point]]:
    """Seconds since the block began, and bytes that this process had resident then, while the block runs."""
    import psutil

    samples: list[Point] = []
    process, over, begun = psutil.Process(), threading.Event(), time.perf_counter()

    def look() -> None:
        while not over.wait(1 / SAMPLES_A_SECOND):
            samples.append((time.perf_counter() - begun, float(process.memory_info().rss)))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


def growth(samples: Sequence[Point]) -> float:
    """The most memory in the last quarter of the time, over the most in the second; 1 where it is flat."""
    quarter = len(samples) // 4
    return peak(samples[-quarter:]) / peak(samples[quarter : 2 * quarter])


def peak(samples: Sequence[Point]) -> float:
    """The most memory, in bytes."""
    return max(held for _, held in samples)


def curve(samples: Sequence[Point]) -> list[Point]:
    """Few enough points to keep, the highest of each stretch, so that no peak is lost."""
    stretch = max(1, -(-len(samples) // KEPT))
    stretches = [samples[at : at + stretch] for at in range(0, len(samples), stretch)]
    return [(round(part[0][0], 1), peak(part)) for part in stretches]
