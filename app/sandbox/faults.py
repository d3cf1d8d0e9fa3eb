"""Faults on demand: what goes wrong between a client and X, switched on through the control API.

A fault hits the next `count` matching requests, or each with chance `rate`. Chance is a hash of the seed and of how
many requests came before, so a run can be repeated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.sandbox.chance import uniform

Name = Literal[
    "latency", "500", "503", "500_after", "503_after", "reset_before", "reset_after", "429_no_reset",
    "lagging_timeline", "missing_metrics", "malformed_json",
]  # fmt: skip


class Fault(BaseModel):
    """One fault.

    Attributes:
        fault: 500, 503 and reset_before strike before the request has any effect, the names with _after when it had.
        method, path: which requests; a regular expression on the path.
        seconds: how long latency lasts (wall time), or how old an own post must be to show (world time).
    """

    model_config = ConfigDict(extra="forbid")

    fault: Name
    rate: float = Field(default=1.0, ge=0, le=1)
    count: int | None = Field(default=None, ge=1)
    method: str | None = None
    path: str = ".*"
    seconds: float = Field(default=1.0, ge=0, le=24 * 3600)

    @model_validator(mode="after")
    def _readable_path(self) -> Fault:
        try:
            re.compile(self.path)
        except re.error as error:
            raise ValueError(f"path {self.path!r} is no regular expression: {error}") from error
        return self

    def matches(self, method: str, path: str) -> bool:
        return (self.method or method).upper() == method and re.search(self.path, path) is not None


@dataclass
class Faults:
    """The faults that are switched on. They do not outlive the process."""

    seed: int
    active: list[Fault] = field(default_factory=list)
    _seen: int = 0

    def strike(self, method: str, path: str) -> list[Fault]:
        """The faults that hit this request; each that counts has one less to go."""
        self._seen += 1
        struck = [
            fault
            for number, fault in enumerate(self.active)
            if fault.matches(method, path) and uniform(self.seed, "fault", number, self._seen) < fault.rate
        ]
        for fault in struck:
            if fault.count is not None:
                fault.count -= 1
        self.active = [fault for fault in self.active if fault.count != 0]
        return struck


def without_metrics(body: Any) -> Any:
    """An answer in which no post has metrics."""
    if isinstance(body, dict):
        return {name: without_metrics(part) for name, part in body.items() if not name.endswith("_metrics")}
    return [without_metrics(part) for part in body] if isinstance(body, list) else body
