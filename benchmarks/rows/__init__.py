"""One file per row, each with a `ROW`. What is heavy is imported by its sides alone, in their own processes."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from benchmarks.row import GPU, BenchmarkError, Row


def names(*, gpu: bool | None = None) -> list[str]:
    """The names of all rows, in the table's order; or of those that need a GPU, or of those that do not."""
    found = sorted(file.stem for file in Path(__file__).parent.glob("*.py") if file.stem != "__init__")
    return [name for name in found if gpu is None or name.startswith(GPU) == gpu]


def load(name: str) -> Row:
    """The row of a name.

    Raises:
        BenchmarkError: there is none.
    """
    if name not in names():
        raise BenchmarkError(f"row: got {name!r}, which is none; use {', '.join(names())}")
    row: Row = import_module(f"{__name__}.{name}").ROW
    return row
