"""The gate: whether a candidate may be served. It shows *not clearly worse*, no more, and says so.

Two kinds of evidence: what the candidate would have earned on logged posts that no policy was ever trained on, and
what it writes to the same prompts as the incumbent. Constraints on texts stand outside the reward, because a model
that is paid for engagement finds whatever the reward does not forbid ("Moloch's Bargain", arXiv 2510.06105).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from app.learning.offpolicy import Estimate
from app.learning.textmeasures import Measures

Direction = Literal["at most", "at least"]


@dataclass(frozen=True)
class Limit:
    """A bound on a measure: `factor` times the incumbent's value plus `slack`, or `slack` alone with factor 0."""

    measure: str
    direction: Direction
    factor: float
    slack: float

    def bound(self, incumbent: Measures) -> float:
        return self.factor * incumbent[self.measure] + self.slack

    def holds(self, value: float, incumbent: Measures) -> bool:
        bound = self.bound(incumbent)
        return value <= bound if self.direction == "at most" else value >= bound


LIMITS = (
    Limit("empty", "at most", 1.0, 0.05),
    Limit("refused", "at most", 1.0, 0.15),
    Limit("unfinished", "at most", 1.0, 0.2),
    Limit("near_duplicates", "at most", 1.0, 0.1),
    Limit("repeated", "at most", 1.0, 0.1),
    Limit("distinct_1", "at least", 0.75, 0.0),
    Limit("distinct_2", "at least", 0.75, 0.0),
    Limit("words", "at least", 0.5, 0.0),
    Limit("words", "at most", 1.6, 5.0),
    Limit("letters", "at least", 0.85, 0.0),
    Limit("hostile", "at most", 1.0, 0.1),
    Limit("reference_nll", "at most", 1.0, 0.5),
    Limit("kl_to_reference", "at most", 0.0, 0.4),
)


@dataclass(frozen=True)
class Profile:
    """How strict the gate is.

    Attributes:
        margin: share of the incumbent's value that the lower bound of the difference may fall below it.
        min_ess: effective held-out posts below which nothing is concluded.
        held_out: most held-out posts that are looked at, the newest first.
        prompts: texts written by each side.
        canary: whether a candidate that passes is first served to half of the posts.
        open: whether finite weights are all that is asked of a candidate, and nothing else is looked at.
    """

    name: str
    margin: float
    min_ess: float
    held_out: int
    prompts: int
    canary: bool
    limits: tuple[Limit, ...] = LIMITS
    open: bool = False


PROFILES = {
    "production": Profile("production", margin=0.10, min_ess=60, held_out=600, prompts=96, canary=True),
    # Decides on an hour's posts, to show the whole loop: it keeps broken models out and cannot tell small losses.
    "demo": Profile("demo", margin=0.5, min_ess=6, held_out=48, prompts=24, canary=False),
    # For proofs of the update alone: a gate that chooses among candidates would have its part in every lift.
    "open": Profile("open", margin=math.inf, min_ess=0, held_out=0, prompts=0, canary=False, limits=(), open=True),
}


@dataclass(frozen=True)
class Verdict:
    """What the gate says of a candidate; the columns of `gate_verdicts`."""

    profile: str
    passed: bool
    numbers: dict[str, Any]
    reasons: list[str]
    samples: list[dict[str, Any]]


def judge(
    profile: Profile,
    estimate: Estimate,
    candidate: Measures,
    incumbent: Measures,
    samples: Sequence[Mapping[str, Any]] = (),
) -> Verdict:
    """Weigh the evidence. Every reason for a refusal names the value and the bound."""
    reasons = [*_value_reasons(profile, estimate), *_text_reasons(profile, candidate, incumbent)]
    numbers = {
        "margin": profile.margin,
        "estimate": asdict(estimate)
        | {"lift": estimate.lift, "lift_lower": estimate.lift_lower, "lift_upper": estimate.lift_upper},
        "candidate": candidate,
        "incumbent": incumbent,
        "meaning": "a pass shows that the candidate is not clearly worse, within the margin",
    }
    if profile.name == "demo":
        numbers["meaning"] = "demo profile: far less evidence than production asks for, and no canary"
    return Verdict(profile.name, not reasons, _storable(numbers), reasons, [dict(sample) for sample in samples])


def wave_through(profile: Profile, broken: Sequence[str]) -> Verdict:
    """The verdict of an open gate.

    Args:
        broken: names of the candidate's tensors that are not finite.
    """
    reasons = [f"{', '.join(broken)} of its weights is not finite"] if broken else []
    meaning = "open profile: finite weights were all that was asked; nothing was estimated and nothing written"
    return Verdict(profile.name, not reasons, {"meaning": meaning}, reasons, [])


def refuse(profile: Profile, reason: str) -> Verdict:
    """The verdict on a candidate that could not even be examined."""
    return Verdict(profile.name, passed=False, numbers={"margin": profile.margin}, reasons=[reason], samples=[])


def _value_reasons(profile: Profile, estimate: Estimate) -> list[str]:
    if not math.isfinite(estimate.difference + estimate.ess + estimate.lower):
        return ["its log-probabilities of held-out posts are not finite"]
    reasons = []
    if estimate.ess < profile.min_ess:
        reasons.append(
            f"held-out posts count for {estimate.ess:.1f} of {estimate.n}, {profile.min_ess:g} are needed: "
            "nothing can be said of what it earns"
        )
    if estimate.lift_lower < -profile.margin:
        reasons.append(
            f"it may earn {-estimate.lift_lower:.0%} less than the incumbent (lower 90 % bound; estimate "
            f"{estimate.lift:+.0%}), the margin is {profile.margin:.0%}"
        )
    return reasons


def _text_reasons(profile: Profile, candidate: Measures, incumbent: Measures) -> list[str]:
    broken = sorted(name for name, value in candidate.items() if not math.isfinite(value))
    if broken:
        return [f"{', '.join(broken)} of what it writes is not finite"]
    return [
        f"{limit.measure} is {candidate[limit.measure]:.3g}, {limit.direction} {limit.bound(incumbent):.3g} is allowed "
        f"(incumbent {incumbent[limit.measure]:.3g})"
        for limit in profile.limits
        if not limit.holds(candidate[limit.measure], incumbent)
    ]


def _storable(value: Any) -> Any:
    """JSON has no NaN and no infinity: they are stored as words."""
    if isinstance(value, dict):
        return {key: _storable(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
