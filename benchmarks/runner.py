"""Measures a row: its sides by turns, each repetition in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.results import Repetition
from benchmarks.row import BenchmarkError, Row, Settings

PROJECT = Path(__file__).parents[1]
LOGS = PROJECT / "build" / "bench" / "logs"

Tell = Callable[[str], None]


def measure(row: Row, settings: Settings, repetitions: int, tell: Tell) -> list[Repetition]:
    """All repetitions of a row, in the order in which they were made.

    Each side goes first every other time, so that a machine that warms up or gets busy disturbs both alike.

    Raises:
        BenchmarkError: a side failed.
    """
    row.prepare(PROJECT)
    done: list[Repetition] = []
    for turn in range(repetitions):
        for side in list(row.sides) if turn % 2 == 0 else list(reversed(row.sides)):
            tell(f"{row.name}: repetition {turn + 1} of {repetitions}, {row.sides[side].label}")
            found = run_side(row, side, settings, log=LOGS / f"{row.name}-{side}-{turn + 1}.log")
            done.append(Repetition(side, found["values"], found["versions"], found["points"]))
    return done


def run_side(row: Row, side: str, settings: Settings, *, log: Path) -> dict[str, Any]:
    """One repetition of one side: its values and the versions of what it ran on."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        given, result = Path(scratch) / "settings.json", Path(scratch) / "result.json"
        given.write_text(json.dumps({"settings": dict(settings), "packages": row.packages}))
        measure = row.sides[side].measure
        names = [measure.__module__, measure.__name__]
        command = [sys.executable, "-m", "benchmarks.child", *names, str(given), str(result)]
        with log.open("w") as output:
            try:
                done = subprocess.run(
                    command,
                    cwd=PROJECT,
                    env=_environment(row.sides[side].path, settings),
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=row.longest,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                raise BenchmarkError(f"{row.name}, {side}: not done after {row.longest:.0f} s; see {log}") from None
        if done.returncode != 0 or not result.exists():
            last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
            raise BenchmarkError(f"{row.name}, {side}: ended with {done.returncode}: {last[0]}; all of it is in {log}")
        found: dict[str, Any] = json.loads(result.read_text())
        return found


def _environment(path: str | None, settings: Settings) -> dict[str, str]:
    """Both sides get the same, but for the packages that only one of them is to find."""
    first, last = [str(PROJECT / path)] if path else [], os.environ.get("PYTHONPATH", "").split(os.pathsep)
    packages = os.pathsep.join([*first, str(PROJECT), *filter(None, last)])
    env = os.environ | {"PYTHONPATH": packages, "TOKENIZERS_PARALLELISM": "false"}
    if "threads" in settings:
        env |= {name: str(settings["threads"]) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return env
