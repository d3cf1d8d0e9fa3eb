"""What a benchmark row is: two sides that do the same work and the ratios they come to, or one side and its targets."""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

GPU = "gpu_"  # what the names of rows that need one begin with
OURS = "ours"
BASELINE = "baseline"

Settings = Mapping[str, int | float | str]
Measured = dict[str, float]
Point = tuple[float, float]


class BenchmarkError(RuntimeError):
    """A row that could not be measured. The message says why."""


class Probe:
    """What a side's function tells the process that runs it, on the way."""

    def __init__(self) -> None:
        self.imports_rss: float | None = None
        self.points: list[Point] = []

    def imported(self) -> None:
        """To be called once libraries are imported and nothing is loaded: the peak memory until then is theirs."""
        self.imports_rss = peak_rss()

    def curve(self, points: list[Point]) -> None:
        """What the row's curve is to show of this repetition."""
        self.points = points


Measure = Callable[[Settings, Probe], Measured]


def nothing_to_prepare(_project: Path) -> None:
    """Of a row whose sides have all they need."""


@dataclass(frozen=True)
class Side:
    """One of the two things compared.

    Attributes:
        label: what it is, with its version.
        measure: a module's function. Does the work of one repetition, in a process of its own, and returns what it
            measured, in SI units.
        settings: how it is set up, as the table states it.
        path: a directory, relative to the project, whose packages come before the installed ones.
    """

    label: str
    measure: Measure
    settings: tuple[str, ...]
    path: str | None = None


@dataclass(frozen=True)
class Figure:
    """One ratio of a row, between the medians of the two sides; or what ours alone comes to.

    Attributes:
        measured: the key under which the sides return it.
        unit: `s`, `bytes`, or whatever the table is to show behind the medians.
        ratio_of: which median is divided by which; `ours alone` where there is nothing to compare with.
        bound: which side of the target is good.
        target: what the ratio has to reach, or ours alone in its unit; None where it is only told.
    """

    name: str
    measured: str
    unit: str
    ratio_of: Literal["baseline / ours", "ours / baseline", "ours alone"]
    bound: Literal["at least", "at most"]
    target: float | None


@dataclass(frozen=True)
class Curve:
    """Something of ours over time, to be drawn.

    Attributes:
        over, shown: what the axes say.
        scale: what the values are divided by, to be in the unit that `shown` names.
        bound: a line that it must stay below, in bytes or whatever the values are in.
    """

    over: str
    shown: str
    scale: float
    bound: float


@dataclass(frozen=True)
class Row:
    """One comparison, or one thing held against targets of its own.

    Attributes:
        baseline: None where there is nothing that a user would pick instead.
        name: its file under `benchmarks/rows` and `benchmarks/results`.
        settings: of both sides alike.
        quick: what `--quick` changes in them, to try whether the row runs at all.
        packages: whose versions the result keeps, of each side.
        bounds: of a row that misses a target, what bounds it and what would lift it, from its profile.
        longest: seconds that a repetition may take.
        curve: drawn of the points that ours gives to its probe.
        prepare: fetches and installs what the sides need, into directories that git ignores.
    """

    name: str
    what: str
    ours: Side
    baseline: Side | None
    figures: tuple[Figure, ...]
    settings: Settings
    packages: tuple[str, ...]
    quick: Settings = field(default_factory=dict)
    repetitions: int = 3
    bounds: str = ""
    longest: float = 30 * 60
    curve: Curve | None = None
    prepare: Callable[[Path], None] = nothing_to_prepare

    @property
    def sides(self) -> dict[str, Side]:
        """The sides that there are, by name."""
        return {OURS: self.ours} | ({BASELINE: self.baseline} if self.baseline else {})


def peak_rss() -> float:
    """The most memory that this process has had resident since its program began, in bytes.

    Linux lets `ru_maxrss` of a child begin with what its parent had; VmHWM is the same figure without that.
    """
    status = Path("/proc/self/status")
    if status.exists():
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return float(peak.split()[1]) * 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # bytes on macOS
