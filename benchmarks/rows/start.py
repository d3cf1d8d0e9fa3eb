"""How long a process takes until it can do something: what everybody waits for who types a command."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.row import BenchmarkError, Figure, Measured, Probe, Row, Settings, Side

COMMANDS = {
    "import_app": ["-c", "import app"],
    "import_celery": ["-c", "import app.celery"],
    "help": ["-m", "app.cli", "--help"],
}


def ours(settings: Settings, probe: Probe) -> Measured:
    """The median of several starts of each, the first left out: it reads files that nobody has read yet."""
    probe.imported()
    return {name: _median(arguments, int(settings["starts"])) for name, arguments in COMMANDS.items()}


def _median(arguments: list[str], starts: int) -> float:
    root, seconds = Path(__file__).parents[2], []
    for _ in range(starts + 1):
        begun = time.perf_counter()
        done = subprocess.run([sys.executable, *arguments], cwd=root, capture_output=True, check=False)
        seconds.append(time.perf_counter() - begun)
        if done.returncode != 0:
            raise BenchmarkError(f"python {' '.join(arguments)}: {done.stderr.decode()[-200:]}")
    return sorted(seconds[1:])[starts // 2]


ROW = Row(
    name="start",
    what="From the start of Python to its end: importing the package, importing the Celery app, and the help page.",
    ours=Side(label="Explorer", measure=ours, settings=("Compiled, and in the machine's file cache.",)),
    baseline=None,
    figures=(
        Figure("`import app`", "import_app", "s", "ours alone", "at most", 0.5),
        Figure("`import app.celery`", "import_celery", "s", "ours alone", "at most", None),
        Figure("`explorer --help`", "help", "s", "ours alone", "at most", 0.4),
    ),
    settings={"starts": 9},
    quick={"starts": 1},
    packages=("celery", "typer", "pydantic"),
)
