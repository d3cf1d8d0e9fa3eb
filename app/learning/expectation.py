"""What a post's place would have earned whatever was said there.

A negative-binomial regression on pre-treatment facts, times an effect for the author of the post answered.
Where data is thin, the mean of the post's kind instead, drawn towards the mean of all.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import structlog

from app.learning.features import Array, Facts, encode

log = structlog.get_logger()

SAMPLES_PER_COLUMN = 10  # fewer, and a regression describes its noise (Peduzzi et al. 1996)
MIN_TOTAL = 50.0  # with fewer events than this altogether there is nothing to regress on
KIND_WEIGHT = 10.0  # posts of evidence that the mean of all counts for against the mean of a kind
AUTHOR_WEIGHT = 5.0  # expected events that "this author is like the others" counts for
MIN_MEAN = 0.05  # one like where none was expected is luck, not a deviation of a hundred
MAX_DISPERSION = 10.0


@dataclass(frozen=True)
class Expectation:
    """For each of n posts: its place's mean, its author's factor, their product and the variance around it."""

    method: str
    place: Array
    author: Array
    mean: Array
    variance: Array
    dispersion: float


def expect(facts: Sequence[Facts], earned: Array) -> Expectation:
    """Fit what n posts earned (shape [n], each ≥ 0) to what was known of their places."""
    features = encode(facts)
    place = _regression(features, earned)
    method = "negative binomial"
    if place is None:
        place, method = _kind_means(facts, earned), "mean of its kind"
    place = np.clip(place, MIN_MEAN, None)
    author = author_factors(facts, earned, place)
    mean = np.clip(place * author, MIN_MEAN, None)
    alpha = dispersion(earned, mean)
    return Expectation(method, place, author, mean, mean + alpha * mean**2, alpha)


def dispersion(earned: Array, mean: Array) -> float:
    """α of Var = μ + α μ², by the auxiliary regression of Cameron & Trivedi (1990), between 0 and 10."""
    if len(earned) < 2:
        return 0.0
    alpha = float(((earned - mean) ** 2 - earned).sum() / (mean**2).sum())
    return min(max(alpha, 0.0), MAX_DISPERSION)


def author_factors(facts: Sequence[Facts], earned: Array, place: Array) -> Array:
    """How much more than its place suggests an author's other posts earned, drawn towards 1.

    The posterior mean of a Gamma-Poisson factor (Bühlmann's credibility): (k + Σ earned) / (k + Σ expected) over
    the author's other posts. Its own post is left out, or each post would explain itself.
    """
    totals: dict[str, tuple[float, float]] = {}
    for fact, y, mu in zip(facts, earned, place, strict=True):
        if fact.author_id is not None:
            seen, due = totals.get(fact.author_id, (0.0, 0.0))
            totals[fact.author_id] = (seen + y, due + mu)
    factors = np.ones(len(facts))
    for i, fact in enumerate(facts):
        if fact.author_id is not None:
            seen, due = totals[fact.author_id]
            factors[i] = (AUTHOR_WEIGHT + seen - earned[i]) / (AUTHOR_WEIGHT + due - place[i])
    return np.clip(factors, 0.1, 10.0)


def _kind_means(facts: Sequence[Facts], earned: Array) -> Array:
    overall = float(earned.mean()) if len(earned) else 0.0
    kinds = np.array([fact.kind for fact in facts])
    means = np.empty(len(facts))
    for kind in set(kinds.tolist()):
        here = kinds == kind
        means[here] = (earned[here].sum() + KIND_WEIGHT * overall) / (here.sum() + KIND_WEIGHT)
    return means


def _regression(features: Array, earned: Array) -> Array | None:
    """Fitted means of a negative-binomial GLM with log link, or None where there is too little to fit."""
    spread = features.std(axis=0)
    varies = spread > 1e-9  # a constant column has a deviation of some rounding errors
    columns, spread = features[:, varies], spread[varies]
    n, k = columns.shape
    if n < SAMPLES_PER_COLUMN * (k + 1) or earned.sum() < MIN_TOTAL:
        return None
    # A second of imports that nobody but a reward run needs.
    import statsmodels.api as sm
    from statsmodels.tools.sm_exceptions import PerfectSeparationError

    design = np.column_stack([np.ones(n), (columns - columns.mean(axis=0)) / spread])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # overflow in the link means the fit ran away
            first = sm.GLM(earned, design, family=sm.families.Poisson()).fit()
            alpha = max(dispersion(earned, first.fittedvalues), 1e-3)
            fit = sm.GLM(earned, design, family=sm.families.NegativeBinomial(alpha=alpha)).fit()
    except (RuntimeWarning, ValueError, np.linalg.LinAlgError, PerfectSeparationError) as error:
        log.warning("expectation.fit_failed", posts=n, error=str(error), fallback="mean of its kind")
        return None
    fitted = cast(Array, np.asarray(fit.fittedvalues, dtype=np.float64))
    if not fit.converged or not np.isfinite(fitted).all() or fitted.max() > 10 * max(float(earned.max()), 1.0):
        log.warning("expectation.fit_unsound", posts=n, converged=bool(fit.converged), fallback="mean of its kind")
        return None
    return fitted
