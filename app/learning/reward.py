"""From logged facts to a reward, by a sum that can be printed.

    engagement  E = Σ weight · count; a quote or a reply that is hostile to the post counts against it
    expected    μ, V: mean and variance of what the post's place earns anyway (app/learning/expectation.py)
    residual    (E − μ) / √V, clipped to ±3
    reward      the residual in standard deviations of its window, and never below the reward of a refusal

Three posts that earned the same:

>>> plain = {"likes": 1.0, "retweets": 2.0, "quotes": 1.0, "replies": 1.0}
>>> liked = engagement({"likes": 5, "retweets": 1, "quotes": 0, "replies": 0}, plain)
>>> liked.total
7.0
>>> discussed = engagement({"likes": 3, "retweets": 0, "quotes": 0, "replies": 4}, plain, replies=(0.6, 0.0, 0.3))
>>> discussed.total
7.0
>>> ratioed = engagement({"likes": 7, "retweets": 0, "quotes": 0, "replies": 8}, plain, replies=(-0.7, -0.2, -0.5, 0.4))
>>> ratioed.gained, ratioed.lost, ratioed.total
(9.0, 6.0, 3.0)

Where 2 were expected with a variance of 4, the first did two and a half deviations better than its place; in a
window whose residuals average 0.1 and spread by 0.8, its reward is 3.0:

>>> terms = reward_terms(liked, Place(mean=2.0, variance=4.0), Window(n=200, mean=0.1, sd=0.8), floor=-2.0)
>>> terms["residual"], round(terms["reward"], 2)
(2.5, 3.0)

A draft that safety or form refused, or a post that was taken down, has a fixed reward and no other term, so that
likes can't buy it back; and nothing that stood is worth less, so that being refused is never an escape:

>>> refusal_terms("too_long", floor=-2.0)["reward"]
-2.0
>>> reward_terms(ratioed, Place(11.0, 4.0), Window(200, 0.1, 0.8), floor=-2.0)["reward"]
-2.0
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from app.config import PPOConfig
from app.learning.expectation import expect
from app.learning.features import Array, Facts
from app.learning.stance import sign

# Raise it with any change to the formula: rewards of another version are computed anew, never altered.
FORMULA = 1
CLIP = 3.0
WINDOW_WEIGHT = 10.0  # posts of evidence that "mean 0, deviation 1" counts for in a thin window
SIGNED = ("quotes", "replies")


def reward_version(config: PPOConfig) -> str:
    """Names the formula and every setting that it depends on, e.g. `r1-3f9a0c12`."""
    settings = [config.reward_weights, config.reward_age, config.refused_reward]
    return f"r{FORMULA}-{hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Engagement:
    """Weighted counts, apart by whether they speak for the post or against it."""

    gained: float
    lost: float
    counts: Mapping[str, int]
    weights: Mapping[str, float]
    hostile_share: Mapping[str, float]

    @property
    def total(self) -> float:
        return self.gained - self.lost


@dataclass(frozen=True)
class Place:
    """What a post's place earns anyway, and how that came about."""

    mean: float
    variance: float
    method: str = "given"
    place: float | None = None
    author: float = 1.0


@dataclass(frozen=True)
class Window:
    """Residuals of the posts that a reward is standardised with."""

    n: int
    mean: float
    sd: float


@dataclass(frozen=True)
class RewardInput:
    """A post at its reward age: pre-treatment facts, and what it earned."""

    facts: Facts
    engagement: Engagement


def engagement(
    counts: Mapping[str, int],
    weights: Mapping[str, float],
    quotes: Sequence[float] = (),
    replies: Sequence[float] = (),
) -> Engagement:
    """Weigh counts. `quotes` and `replies` are the stances (−1 to 1) of those that were read.

    Those not read are taken to be hostile in the same share; if none was read, not at all.
    """
    stances = {"quotes": quotes, "replies": replies}
    hostile = {name: float(np.mean([sign(s) < 0 for s in read])) for name, read in stances.items() if read}
    worth = {name: weight * counts[name] for name, weight in weights.items()}
    lost = sum(worth.get(name, 0.0) * share for name, share in hostile.items())
    return Engagement(sum(worth.values()) - lost, lost, dict(counts), dict(weights), hostile)


def residual(earned: float, place: Place) -> float:
    """Pearson residual, clipped: one lucky post must not outweigh a day of others."""
    return max(-CLIP, min(CLIP, (earned - place.mean) / math.sqrt(place.variance)))


def window_of(residuals: Array) -> Window:
    """Mean and deviation of a window, drawn towards 0 and 1 while it is thin."""
    n = len(residuals)
    if n == 0:
        return Window(0, 0.0, 1.0)
    variance = (n * float(residuals.var()) + WINDOW_WEIGHT) / (n + WINDOW_WEIGHT)
    return Window(n, n * float(residuals.mean()) / (n + WINDOW_WEIGHT), math.sqrt(variance))


def reward_terms(engaged: Engagement, place: Place, window: Window, *, floor: float) -> dict[str, Any]:
    """Every term of a measured post's reward, by name; `explain` prints them."""
    clipped = residual(engaged.total, place)
    standardised = (clipped - window.mean) / window.sd
    return {
        "rule": "engagement",
        "engagement": {**asdict(engaged), "total": engaged.total},
        "expected": asdict(place),
        "unclipped": (engaged.total - place.mean) / math.sqrt(place.variance),
        "residual": clipped,
        "window": asdict(window),
        "standardised": standardised,
        "floor": floor,
        "reward": max(standardised, floor),
    }


def refusal_terms(rule: str, *, floor: float) -> dict[str, Any]:
    """The terms of a draft that form or safety refused, or of a post that was taken down."""
    return {"rule": "refused", "refused_by": rule, "floor": floor, "reward": floor}


def score(posts: Sequence[RewardInput], *, floor: float) -> list[dict[str, Any]]:
    """The terms of each post of a window, in order. What the window expects is fitted to all of it.

    Only what speaks for a post is expected of its place: hostility is earned by what was said.
    """
    if not posts:
        return []
    fitted = expect([post.facts for post in posts], np.array([post.engagement.gained for post in posts]))
    places = [
        Place(float(mean), float(variance), fitted.method, float(place), float(author))
        for mean, variance, place, author in zip(fitted.mean, fitted.variance, fitted.place, fitted.author, strict=True)
    ]
    residuals = [residual(post.engagement.total, place) for post, place in zip(posts, places, strict=True)]
    window = window_of(np.array(residuals))
    return [
        reward_terms(post.engagement, place, window, floor=floor) for post, place in zip(posts, places, strict=True)
    ]


def explain(terms: Mapping[str, Any]) -> str:
    """The sum of a reward in words and numbers, a line to a term.

    >>> print(explain(refusal_terms("too_long", floor=-2.0)))
    reward -2.00: refused by the rule too_long, the fixed floor
    >>> counts = {"likes": 5, "retweets": 1, "quotes": 0, "replies": 2}
    >>> angry = engagement(counts, {"likes": 1.0, "retweets": 2.0, "quotes": 1.0, "replies": 1.0}, replies=(0.3, -0.6))
    >>> print(explain(reward_terms(angry, Place(2.0, 4.0), Window(200, 0.1, 0.8), floor=-2.0)))
    likes        5 × 1 = 5.00
    retweets     1 × 2 = 2.00
    quotes       0 × 1 = 0.00
    replies      2 × 1 = 2.00, 50% hostile: 1.00 for, 1.00 against
    engagement   8.00 − 1.00 = 7.00
    expected     2.00 ± 2.00 (given)
    residual     (7.00 − 2.00) / 2.00 = 2.50
    standardised (2.50 − 0.10) / 0.80 = 3.00, over 200 posts
    reward       3.00
    """
    if terms["rule"] == "refused":
        return f"reward {terms['reward']:.2f}: refused by the rule {terms['refused_by']}, the fixed floor"
    engaged, place, window = terms["engagement"], terms["expected"], terms["window"]
    lines = [_count_line(name, engaged) for name in engaged["weights"]]
    deviation = math.sqrt(place["variance"])
    clipped = "" if terms["residual"] == terms["unclipped"] else f", clipped to {terms['residual']:.2f}"
    author = "" if place["author"] == 1.0 else f", {place['place']:.2f} × {place['author']:.2f} for its author"
    lines += [
        f"engagement   {engaged['gained']:.2f} − {engaged['lost']:.2f} = {engaged['total']:.2f}",
        f"expected     {place['mean']:.2f} ± {deviation:.2f} ({place['method']}{author})",
        f"residual     ({engaged['total']:.2f} − {place['mean']:.2f}) / {deviation:.2f} = "
        f"{terms['unclipped']:.2f}{clipped}",
        f"standardised ({terms['residual']:.2f} − {window['mean']:.2f}) / {window['sd']:.2f} = "
        f"{terms['standardised']:.2f}, over {window['n']} posts",
        f"reward       {terms['reward']:.2f}{', held at the floor' if terms['reward'] > terms['standardised'] else ''}",
    ]
    return "\n".join(lines)


def _count_line(name: str, engaged: Mapping[str, Any]) -> str:
    count, weight = engaged["counts"][name], engaged["weights"][name]
    line = f"{name:<12} {count} × {weight:g} = {count * weight:.2f}"
    share = engaged["hostile_share"].get(name, 0.0)
    if not share:
        return line
    return f"{line}, {share:.0%} hostile: {count * weight * (1 - share):.2f} for, {count * weight * share:.2f} against"
