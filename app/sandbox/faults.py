"""Faults on demand: what goes wrong between a client and X, switched on through the control API.

By rate: a fault hits each matching request with a chance, or the next `count` of them. By script: a list says what
happens to the next requests, one entry each. Chance is a hash of the seed and of how many requests came before, so a
run can be repeated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import exp, log
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.sandbox.chance import normal, uniform

Name = Literal[
    "none", "latency", "500", "503", "500_after", "503_after", "402", "429_no_reset", "429_usage_capped",
    "reset_before", "reset_after", "timeout", "timeout_after", "late_effect",
    "lagging_timeline", "missing_metrics", "truncated_json", "malformed_json",
]  # fmt: skip
Distribution = Literal["fixed", "uniform", "exponential", "lognormal"]

NO_EFFECT = frozenset({"reset_before", "timeout"})
WAITS_FIRST = frozenset({"latency", "late_effect"})
WAITS_LAST = frozenset({"timeout", "timeout_after"})
CUTS = frozenset({"reset_before", "reset_after", "timeout", "timeout_after", "late_effect"})


class Fault(BaseModel):
    """One fault.

    Attributes:
        fault: what happens. 500, 503, 402, both 429, reset_before and timeout strike before the request has any effect,
            the names with _after when it had. A timeout keeps the connection open and silent for `seconds`, then
            resets it; late_effect does so too, and the request takes effect at the end of them, when its client has
            given up. In a script, none lets a request pass.
        method, path: which requests; a regular expression on the path.
        seconds: how long latency, a timeout or late_effect lasts (wall time), or how old an own post must be to show
            (world time).
        distribution: how `seconds` varies: fixed, uniform up to twice it, exponential with it as the mean, or lognormal
            with it as the median and `sigma` as the spread of its logarithm.
    """

    model_config = ConfigDict(extra="forbid")

    fault: Name
    rate: float = Field(default=1.0, ge=0, le=1)
    count: int | None = Field(default=None, ge=1)
    method: str | None = None
    path: str = ".*"
    seconds: float = Field(default=1.0, ge=0, le=24 * 3600)
    distribution: Distribution = "fixed"
    sigma: float = Field(default=0.5, ge=0, le=5)

    @model_validator(mode="after")
    def _readable_path(self) -> Fault:
        try:
            re.compile(self.path)
        except re.error as error:
            raise ValueError(f"path {self.path!r} is no regular expression: {error}") from error
        return self

    def matches(self, method: str, path: str) -> bool:
        return (self.method or method).upper() == method and re.search(self.path, path) is not None

    def drawn(self, *salt: object) -> Fault:
        """The fault as it hits one request, with the seconds that this one lasts."""
        chance = uniform(*salt, "seconds")
        factor = {
            "fixed": lambda: 1.0,
            "uniform": lambda: 2.0 * chance,
            "exponential": lambda: -log(1.0 - chance),
            "lognormal": lambda: exp(self.sigma * normal(*salt, "seconds")),
        }[self.distribution]()
        return self.model_copy(update={"seconds": self.seconds * factor})


@dataclass
class Faults:
    """The faults that are switched on, and the script. They do not outlive the process."""

    seed: int
    active: list[Fault] = field(default_factory=list)
    script: list[Fault] = field(default_factory=list)
    _seen: int = 0

    def strike(self, method: str, path: str) -> list[Fault]:
        """The faults that hit this request; each that counts has one less to go."""
        self._seen += 1
        struck = [
            fault
            for number, fault in enumerate(self.active)
            if fault.matches(method, path) and self._lucky(fault, number)
        ]
        for fault in struck:
            if fault.count is not None:
                fault.count -= 1
        self.active = [fault for fault in self.active if fault.count != 0]
        struck += self._scripted(method, path)
        return [fault.drawn(self.seed, "fault", self._seen, number) for number, fault in enumerate(struck)]

    def _scripted(self, method: str, path: str) -> list[Fault]:
        """The first entry of the script, if it is about this request: then it is used up, `count` times if it has one.

        An entry that is about other requests waits for the next of them, and so does all that comes after it.
        """
        if not self.script or not self.script[0].matches(method, path):
            return []
        entry = self.script[0]
        entry.count = (entry.count or 1) - 1
        if not entry.count:
            self.script = self.script[1:]
        return [entry] if self._lucky(entry, "script") else []

    def _lucky(self, fault: Fault, place: int | str) -> bool:
        return uniform(self.seed, "fault", place, self._seen) < fault.rate


def without_metrics(body: Any) -> Any:
    """An answer in which no post has metrics."""
    if isinstance(body, dict):
        return {name: without_metrics(part) for name, part in body.items() if not name.endswith("_metrics")}
    return [without_metrics(part) for part in body] if isinstance(body, list) else body


def spoilt(text: str, names: set[str]) -> str:
    """The text of an answer as a fault leaves it: cut off, or whole and no JSON."""
    if "truncated_json" in names:
        text = text[: len(text) * 2 // 3]
    return text.replace('"', "'") if "malformed_json" in names else text
