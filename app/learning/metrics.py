"""Metrics of a training run, by their usual names: one JSON object a step in `metrics.jsonl`, and TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType

from app import clock


class MetricsLog:
    """Both logs of one run, in one directory."""

    def __init__(self, directory: str | Path) -> None:
        from torch.utils.tensorboard import SummaryWriter  # a second of imports, for training alone

        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._lines = (self.directory / "metrics.jsonl").open("a", encoding="utf-8")
        self._board = SummaryWriter(str(self.directory))

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Add one step's metrics; a number that is not finite is written as text, which JSON can hold."""
        plain = {name: value if abs(value) < float("inf") else str(value) for name, value in metrics.items()}
        line = {"step": step, "at": clock.wall_now().isoformat(), **plain}
        self._lines.write(json.dumps(line, allow_nan=False) + "\n")
        self._lines.flush()  # a killed run leaves every step it made
        for name, value in metrics.items():
            self._board.add_scalar(name, value, step)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._board.close()
