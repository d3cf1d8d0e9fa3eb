"""What was measured: medians, ratios, whether they reach their targets, and the JSON that keeps all of it."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.row import BASELINE, GPU, OURS, BenchmarkError, Figure, Measured, Point, Row, Settings

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Repetition:
    """One run of one side."""

    side: str
    values: Measured
    versions: dict[str, str]
    points: list[Point] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """A figure as it came out. `met` is None where there is no target, the other two where there is no baseline."""

    ours: float
    baseline: float | None
    ratio: float | None
    met: bool | None


def outcome(figure: Figure, repetitions: Sequence[Repetition]) -> Outcome:
    """The ratio of the medians of both sides, or the median of ours alone.

    Raises:
        BenchmarkError: a side lacks the figure's value, or the ratio's divisor is not above 0.
    """
    ours = _median(figure, repetitions, OURS)
    if figure.ratio_of == "ours alone":
        return Outcome(ours, None, None, _met(figure, ours))
    baseline = _median(figure, repetitions, BASELINE)
    above, below = (baseline, ours) if figure.ratio_of == "baseline / ours" else (ours, baseline)
    if not below > 0:
        raise BenchmarkError(f"{figure.name}: cannot divide by a median of {below}")
    ratio = above / below
    return Outcome(ours, baseline, ratio, _met(figure, ratio))


def _met(figure: Figure, value: float) -> bool | None:
    if figure.target is None:
        return None
    return value >= figure.target if figure.bound == "at least" else value <= figure.target


def _median(figure: Figure, repetitions: Sequence[Repetition], side: str) -> float:
    values = [r.values[figure.measured] for r in repetitions if r.side == side and figure.measured in r.values]
    if not values:
        raise BenchmarkError(f"{figure.name}: {side} did not measure {figure.measured!r}")
    return statistics.median(values)


def record(row: Row, settings: Settings, repetitions: Sequence[Repetition], load: float) -> dict[str, Any]:
    """Everything that the table and a reader need, as JSON keeps it.

    Args:
        load: what else the machine was doing before the first repetition: its load average over a minute.
    """
    return {
        "row": row.name,
        "what": row.what,
        "bounds": row.bounds,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": machine()
        | {"load_before": round(load, 2)}
        | ({"gpu": gpu_name()} if row.name.startswith(GPU) else {}),
        "settings": dict(settings),
        "sides": {
            name: {
                "label": side.label,
                "settings": list(side.settings),
                "versions": next(r.versions for r in repetitions if r.side == name),
            }
            for name, side in row.sides.items()
        },
        "figures": [asdict(figure) | asdict(outcome(figure, repetitions)) for figure in row.figures],
        "repetitions": [{"side": r.side, "values": r.values} for r in repetitions],
        # Of the last one: curves of several would hide each other.
        **({"curve": asdict(row.curve) | {"points": _points(repetitions)}} if row.curve else {}),
    }


def judged(result: dict[str, Any], row: Row) -> dict[str, Any]:
    """A kept result held against what its row asks today: targets and reasons change, measurements do not.

    Raises:
        BenchmarkError: the row has a figure that was not measured then.
    """
    repetitions = [Repetition(kept["side"], kept["values"], {}) for kept in result["repetitions"]]
    return result | {
        "bounds": row.bounds,
        "figures": [asdict(figure) | asdict(outcome(figure, repetitions)) for figure in row.figures],
    }


def _points(repetitions: Sequence[Repetition]) -> list[Point]:
    return [r.points for r in repetitions if r.side == OURS][-1]


def write(result: dict[str, Any], directory: Path = RESULTS) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"{result['row']}.json"
    file.write_text(json.dumps(result, indent=2) + "\n")
    return file


def read_all(directory: Path = RESULTS) -> list[dict[str, Any]]:
    """All results, by the names of their rows."""
    return [json.loads(file.read_text()) for file in sorted(directory.glob("*.json"))]


def machine() -> dict[str, str | int]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "memory_bytes": memory,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def gpu_name() -> str:
    """What the driver calls the first GPU, with its memory and the driver's version.

    Raises:
        BenchmarkError: there is no NVIDIA driver.
    """
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader", "--id=0"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        raise BenchmarkError(f"no NVIDIA GPU was found: {error}") from error


def _processor() -> str:
    """The processor's name and those of its instructions that decide how fast bfloat16 is."""
    file = Path("/proc/cpuinfo")
    facts = dict(line.split(":", 1) for line in file.read_text().splitlines() if ":" in line) if file.exists() else {}
    facts = {name.strip(): value.strip() for name, value in facts.items()}
    wanted = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in facts.get("flags", "").split()]
    return ", ".join([facts.get("model name") or platform.processor() or "unknown", *wanted])


def _commit() -> str:
    """The commit that was measured, marked where files differ from it; not those that benchmarks write."""
    written = (f":(top,exclude){path}" for path in ("benchmarks/results", "docs/performance*"))
    named = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", *written)
    return f"{named}-dirty" if changed else named or "unknown"


def _git(*arguments: str) -> str:
    """What git says; nothing where there is no repository."""
    done = subprocess.run(["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip()
