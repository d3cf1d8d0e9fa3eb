"""What was known before a draft was sent, as numbers. The reward, the baseline and the gate share this encoding.

Only pre-treatment facts may enter: impressions and anything else that comes after the act is partly its effect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dbs.models import Draft
from dbs.states import Kind

Array = NDArray[np.float64]

COUNTS = ("likes", "retweets", "replies", "quotes")
NAMES = (
    "is_reply",
    "is_quote",
    *(f"log_{name}" for name in COUNTS),
    "log_velocity",
    "log_age_h",
    "log_followers",
    "counts_missing",
    "followers_missing",
    "hour_sin",
    "hour_cos",
    "weekend",
)


@dataclass(frozen=True)
class Facts:
    """What was known of a draft's place when it was written; the columns of `drafts` say what each is."""

    kind: str
    hour_utc: int
    weekday: int
    author_id: str | None = None
    likes: int | None = None
    retweets: int | None = None
    replies: int | None = None
    quotes: int | None = None
    age_s: float | None = None
    velocity: float | None = None
    followers: int | None = None


def facts_of(draft: Draft) -> Facts:
    """The facts that a draft's row holds."""
    return Facts(
        kind=draft.kind,
        hour_utc=draft.hour_utc,
        weekday=draft.weekday,
        author_id=draft.target_author_id,
        likes=draft.target_likes,
        retweets=draft.target_retweets,
        replies=draft.target_replies,
        quotes=draft.target_quotes,
        age_s=draft.target_age_s,
        velocity=draft.target_velocity,
        followers=draft.author_followers,
    )


def encode(facts: Sequence[Facts]) -> Array:
    """One row per draft, one column per name in `NAMES`.

    Counts are heavy-tailed, so they enter as log(1 + count). A missing count is not a zero: it enters as 0
    beside an indicator that says so.
    """
    return np.array([_row(fact) for fact in facts], dtype=np.float64).reshape(len(facts), len(NAMES))


def _row(fact: Facts) -> list[float]:
    targeted = fact.kind != Kind.POST
    hour = 2 * math.pi * fact.hour_utc / 24
    return [
        float(fact.kind == Kind.REPLY),
        float(fact.kind == Kind.QUOTE),
        *(_log(getattr(fact, name)) for name in COUNTS),
        _log(fact.velocity),
        _log(None if fact.age_s is None else fact.age_s / 3600),
        _log(fact.followers),
        float(targeted and any(getattr(fact, name) is None for name in COUNTS)),
        float(targeted and fact.followers is None),
        math.sin(hour),
        math.cos(hour),
        float(fact.weekday >= 5),
    ]


def _log(value: float | None) -> float:
    return math.log1p(max(value, 0.0)) if value is not None else 0.0
