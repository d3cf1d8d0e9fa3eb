"""Who reacts to a post, when, and how: drawn by hash, so that likes listed and likes counted are the same likes."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from math import erf, exp, log, sqrt

import numpy as np

from app.sandbox.chance import Floats, Ids, key, normals, uniforms
from app.sandbox.communityfile import Growth
from app.sandbox.posts import Post, to_ms

MINUTE_MS = 60_000
# Gauss-Hermite nodes, to average over the luck of exposure without drawing it.
NODES, NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(15)
NODE_SHARES = NODE_WEIGHTS / NODE_WEIGHTS.sum()


@dataclass(frozen=True)
class Events:
    """Reactions of one sort, in the order of time. Times in milliseconds since 1970."""

    times: list[int] = field(default_factory=list)
    users: list[int] = field(default_factory=list)

    def until(self, ms: int) -> list[int]:
        """Accounts that had reacted by a moment, the latest first."""
        return self.users[: bisect_right(self.times, ms)][::-1]

    def count(self, ms: int) -> int:
        return bisect_right(self.times, ms)


@dataclass(frozen=True)
class Reactions:
    """All that a post will ever earn, with when.

    Attributes:
        views: impressions at the end of time.
        written: replies and quotes by members, as posts of their own.
    """

    views: float = 0.0
    likes: Events = Events()
    reposts: Events = Events()
    blocks: Events = Events()
    written: tuple[Post, ...] = ()


def share_arrived(minutes: float, growth: Growth) -> float:
    """Share of all reactions that have come at an age (log-normal delays)."""
    if minutes <= 0:
        return 0.0
    return 0.5 * (1.0 + erf(log(minutes / growth.median_minutes) / growth.sigma / sqrt(2.0)))


def luck(sigma: float, z: Floats) -> Floats:
    """How much more a post is seen than the mean one: log-normal, with mean 1."""
    spread: Floats = np.exp(sigma * z - sigma * sigma / 2.0)
    return spread


def expected(rate: float, shares: Floats, sigma: float) -> float:
    """Mean number of accounts that react, where each reacts once at most and luck is averaged out."""
    strengths = rate * luck(sigma, NODES)
    return float(NODE_SHARES @ (1.0 - np.exp(-np.outer(strengths, shares))).sum(axis=1))


def draw(post: Post, salt: int, rate: float, *, shares: Floats, ids: Ids, growth: Growth) -> Events:
    """The accounts that react, each once at most, with the time of each.

    Args:
        salt: what makes this draw independent of others.
        rate: events that would come if nobody could react twice.
        shares: of each account in all events; sums to 1.
    """
    if rate <= 0.0:
        return Events([], [])
    chosen = np.flatnonzero(uniforms(salt, ids) < 1.0 - np.exp(-rate * shares))
    delays = growth.median_minutes * np.exp(growth.sigma * normals(key(salt, "delay"), ids[chosen]))
    times = to_ms(post.at) + 1 + (delays * MINUTE_MS).astype(np.int64)
    order = np.argsort(times, kind="stable")
    return Events(times[order].tolist(), ids[chosen][order].tolist())


def without(events: Events, blocked: dict[int, int]) -> Events:
    """Events of accounts that had not blocked the author by then."""
    if not blocked:
        return events
    kept = [(t, u) for t, u in zip(events.times, events.users, strict=True) if blocked.get(u, t + 1) > t]
    return Events([t for t, _ in kept], [u for _, u in kept])


def soft_cap(value: float, ceiling: float) -> float:
    """The value while it is small, the ceiling when it is large, smooth between."""
    return float(value * (1.0 + (value / ceiling) ** 4) ** -0.25)


def angry_share(score: float, hostility: float, angry: float) -> float:
    """Share of replies and quotes that are against the post."""
    return min(0.97, 0.1 + 0.3 * exp(-1.2 * score) + angry * hostility)
