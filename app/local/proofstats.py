"""What several seeds of both arms say together: trained minus shuffled, paired by seed, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Pair:
    """Both arms of one seed: the lift in true engagement of each, and how many updates each had applied."""

    seed: int
    trained: float
    shuffled: float
    trained_updates: int
    shuffled_updates: int

    @property
    def difference(self) -> float:
        return self.trained - self.shuffled


@dataclass(frozen=True)
class Finding:
    """The mean difference and its 95 % interval over seeds. `failures` says why it proves nothing, if so."""

    pairs: tuple[Pair, ...]
    mean: float
    low: float
    high: float
    failures: tuple[str, ...]


def t_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Student's interval of a mean.

    Raises:
        ValueError: fewer than two values have no spread.
    """
    if len(values) < 2:
        raise ValueError(f"an interval over seeds needs two of them at least, got {len(values)}; give more --seeds")
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * np.std(values, ddof=1) / sqrt(len(values))
    return float(np.mean(values) - half), float(np.mean(values) + half)


def conclude(pairs: Sequence[Pair]) -> Finding:
    """Weigh the pairs.

    Raises:
        ValueError: fewer than two pairs.
    """
    differences = [pair.difference for pair in pairs]
    low, high = t_interval(differences)
    failures = [
        f"seed {pair.seed}: {pair.trained_updates} updates were applied in the trained arm, "
        f"{pair.shuffled_updates} in the shuffled one"
        for pair in pairs
        if pair.trained_updates != pair.shuffled_updates
    ]
    if not low > 0:  # so that a value that is no number shows nothing either
        failures.append(
            f"the interval of trained minus shuffled, {low:+.1%} to {high:+.1%}, reaches down to 0: nothing is shown"
        )
    return Finding(tuple(pairs), float(np.mean(differences)), low, high, tuple(failures))


def as_markdown(finding: Finding, *, updates: int, days: float) -> str:
    """The table for the documentation."""
    lines = [
        "| seed | lift, trained | lift, shuffled | difference | updates applied |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {pair.seed} | {pair.trained:+.0%} | {pair.shuffled:+.0%} | {pair.difference:+.0%} | "
            f"{pair.trained_updates} and {pair.shuffled_updates} |"
            for pair in finding.pairs
        ),
        "",
        f"Trained minus shuffled, mean over {len(finding.pairs)} seeds after {updates} updates each "
        f"(about {days:.0f} days of the community): **{finding.mean:+.0%}** (95 % interval {finding.low:+.0%} to "
        f"{finding.high:+.0%}; Student's t, paired by seed).",
    ]
    if finding.failures:
        lines += ["", "It proves nothing: " + "; ".join(finding.failures) + "."]
    return "\n".join(lines)
