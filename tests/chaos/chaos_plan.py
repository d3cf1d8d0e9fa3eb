"""What goes wrong and when: drawn from a seed before anything runs, so that a run that failed can be had again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

# How often each is drawn. Of kills of the GPU service there is a cap of its own: a model takes seconds to load.
KINDS: dict[str, float] = {
    "kill io": 3.0,
    "kill beat": 1.5,
    "kill gpu": 1.0,
    "kill generation": 0.5,
    "kill training": 0.5,
    "freeze": 2.0,
    "redis crash": 1.0,
    "redis loses everything": 1.0,
    "postgres crash": 1.0,
    "post resets after": 3.0,
    "post times out after": 1.5,
    "post takes effect late": 1.5,
    "post answers 503 after": 2.0,
    "X fails": 3.0,
    "X is slow": 1.5,
    "X lies": 1.5,
    "own timeline lags": 1.0,
    "skewed clock": 1.0,
    "full disk": 0.7,
}
GPU_KINDS = {"kill gpu", "kill generation", "kill training"}


@dataclass(frozen=True, eq=False)
class Happening:
    """One fault: `at` seconds after the start, for `seconds`; `facts` say which process, how often, how strong.

    Two alike are two.
    """

    at: float
    kind: str
    seconds: float
    facts: dict[str, Any]

    @property
    def part(self) -> str:
        """What it strikes, by the first word of its kind."""
        return self.kind.split()[0]

    def __str__(self) -> str:
        facts = ", ".join(f"{name} {value}" for name, value in self.facts.items())
        return f"{self.at:7.1f} s  {self.kind} for {self.seconds:.1f} s{f' ({facts})' if facts else ''}"


def draw(seed: int, *, seconds: float, count: int, gpu_kills: int) -> list[Happening]:
    """Faults at random moments, the earliest first; they overlap wherever they last longer than to the next.

    Args:
        count: how many there are.
        gpu_kills: how many of them at most end a process of the GPU service.
    """
    chance = random.Random(seed)
    moments = sorted(chance.uniform(0, seconds) for _ in range(count))
    happenings, killed = [], 0
    for at in moments:
        kind = chance.choices(list(KINDS), list(KINDS.values()))[0]
        if kind in GPU_KINDS:
            killed += 1
            if killed > gpu_kills:
                kind = "kill io"
        happenings.append(Happening(round(at, 1), kind, round(chance.uniform(0.5, 8.0), 1), _facts(kind, chance)))
    return happenings


def _facts(kind: str, chance: random.Random) -> dict[str, Any]:
    match kind:
        case "kill io":
            return {"worker": chance.choice(("io-1", "io-2"))}
        case "freeze":
            return {"service": chance.choice(("io-1", "io-2", "beat", "gpu"))}
        case "post resets after" | "post times out after" | "post takes effect late" | "post answers 503 after":
            return {"times": chance.randint(1, 3)}
        case "X fails":
            return {
                "fault": chance.choice(("500", "503", "429_no_reset", "reset_before", "reset_after", "timeout")),
                "rate": round(chance.uniform(0.2, 0.9), 2),
            }
        case "X lies":
            return {
                "fault": chance.choice(("truncated_json", "malformed_json", "missing_metrics")),
                "rate": round(chance.uniform(0.2, 0.9), 2),
            }
        case "skewed clock":
            return {"minutes": chance.choice((-90, -20, 20, 90))}
    return {}
