"""What a policy would have earned, from posts that another one wrote."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from app.learning.baseline import cross_fitted
from app.learning.features import Array

Z90 = 1.645  # half-width of a two-sided 90 % normal interval, in standard errors
SHRINKAGES = 9  # values of λ tried, from 1 to n: no weight then counts for more than half the root of n
WINSOR = 0.99  # quantile of the outcomes at which they are cut: one viral post must not decide
LEAST_VALUE = 0.05  # a smaller mean outcome is no scale to measure a difference by


@dataclass(frozen=True)
class Estimate:
    """V(candidate) − V(incumbent) on logged posts, in units of the outcome, with a two-sided 90 % interval.

    `lift`, `lift_lower` and `lift_upper` are the same as shares of the incumbent's value.
    """

    n: int
    ess: float
    incumbent: float
    difference: float
    lower: float
    upper: float
    snips: float
    shrinkage: float

    @property
    def scale(self) -> float:
        return max(self.incumbent, LEAST_VALUE)

    @property
    def lift(self) -> float:
        return self.difference / self.scale

    @property
    def lift_lower(self) -> float:
        return self.lower / self.scale

    @property
    def lift_upper(self) -> float:
        return self.upper / self.scale


def ess(log_ratios: Array) -> float:
    """Kish's effective sample size (Σ w)² / Σ w² of ratios π/μ given by their logarithms, from 1 to n.

    Ratios average 1, so one over √n is an outlier: it is cut off there (truncated importance sampling, Ionides
    2008), or a single draft of a hundred would decide.
    """
    logs = np.minimum(log_ratios, math.log(len(log_ratios)) / 2)
    weights = np.exp(logs - logs.max())
    return float(weights.sum() ** 2 / (weights**2).sum())


def estimate(candidate: Array, incumbent: Array, behaviour: Array, outcome: Array, features: Array) -> Estimate:
    """Doubly robust difference with shrunken weights (Su et al. 2020, arXiv 1907.09623), SNIPS beside it.

    Args:
        candidate, incumbent, behaviour: log-probability of each logged output under the three policies, shape [n].
        outcome: what each earned; 0 for a refused draft.
        features: what was known before, shape [n, k]; the baseline is fitted to it out of fold.
    """
    outcome = np.minimum(outcome, np.quantile(outcome, WINSOR))
    ours, theirs = np.exp(candidate - behaviour), np.exp(incumbent - behaviour)
    baseline = cross_fitted(features, outcome)
    rest = outcome - baseline
    grid = np.geomspace(1, len(outcome), SHRINKAGES).tolist()
    shrinkage = min(grid, key=lambda value: _risk(ours, theirs, rest, value))
    terms = (shrink(ours, shrinkage) - shrink(theirs, shrinkage)) * rest
    value = float((baseline + shrink(theirs, shrinkage) * rest).mean())
    error = float(terms.std(ddof=1)) / math.sqrt(len(terms))
    difference = float(terms.mean())
    return Estimate(
        n=len(outcome),
        ess=ess(candidate - behaviour),
        incumbent=value,
        difference=difference,
        lower=difference - Z90 * error,
        upper=difference + Z90 * error,
        snips=snips(ours, outcome) - snips(theirs, outcome),
        shrinkage=shrinkage,
    )


def shrink(weights: Array, shrinkage: float) -> Array:
    """λ w / (w² + λ): w where it is small, towards 0 where it is huge, never over √λ / 2."""
    return np.asarray(shrinkage * weights / (weights**2 + shrinkage), dtype=np.float64)


def snips(weights: Array, outcome: Array) -> float:
    """Self-normalised importance sampling (Swaminathan & Joachims 2015)."""
    return float((weights * outcome).sum() / weights.sum())


def _risk(ours: Array, theirs: Array, rest: Array, shrinkage: float) -> float:
    """Estimated squared error of the difference: what the shrinking biases it by, and what variance is left."""
    plain = (ours - theirs) * rest
    shrunken = (shrink(ours, shrinkage) - shrink(theirs, shrinkage)) * rest
    return float((shrunken - plain).mean() ** 2 + shrunken.var() / len(rest))
