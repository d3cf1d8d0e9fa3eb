"""Chance by hash: what looks random is a function of the seed and of what it is about.

So two processes that ask in a different order, or a sandbox that was killed and started again, see the same
community. `uniforms` draws for a whole population at once with splitmix64 (Steele, Lea and Flood 2014).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from math import exp
from typing import TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")
Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.uint64]


SEPARATOR = "\x1f"
SPAN = 2**64
# The constants of splitmix64, and what tells a second draw for the same key from the first.
GOLDEN, MIXERS = 0x9E3779B97F4A7C15, (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
OTHER = 0x5DEECE66D


def key(*parts: object) -> int:
    """64 bits that depend on every part and on their order."""
    return hashed(SEPARATOR.join(map(str, parts)))


def hashed(joined: str) -> int:
    """`key` of parts that were joined by SEPARATOR already: for what is drawn a hundred thousand times at the start."""
    return int.from_bytes(blake2b(joined.encode(), digest_size=8).digest(), "big")


def uniform(*parts: object) -> float:
    """A number in [0, 1)."""
    return key(*parts) / SPAN


def pick(options: Sequence[T], *parts: object) -> T:
    """One of the options, each as likely as another."""
    return options[key(*parts) % len(options)]


def weighted(options: Sequence[T], weights: Sequence[float], *parts: object) -> T:
    """One of the options, in proportion to its weight."""
    return weighted_at(uniform(*parts), options, weights)


def weighted_at(point: float, options: Sequence[T], weights: Sequence[float]) -> T:
    """The option at a point in [0, 1) of all of them laid end to end, each as long as its weight."""
    point *= sum(weights)
    for option, weight in zip(options, weights, strict=True):
        point -= weight
        if point < 0:
            return option
    return options[-1]


def poisson(mean: float, *parts: object) -> int:
    """A Poisson count. For means of a few; it walks the distribution."""
    return poisson_at(uniform(*parts), mean)


def poisson_at(point: float, mean: float) -> int:
    """The Poisson count at a point in [0, 1) of the distribution function, by inversion."""
    term, count = exp(-mean), 0
    while point >= term and count < 1000:
        point -= term
        count += 1
        term *= mean / count
    return count


def uniforms(salt: int, ids: Ids) -> Floats:
    """A number in [0, 1) for every id, independent between ids and between salts."""
    with np.errstate(over="ignore"):
        x = ids + np.uint64(salt) + np.uint64(GOLDEN)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(MIXERS[0])
        x = (x ^ (x >> np.uint64(27))) * np.uint64(MIXERS[1])
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(11)).astype(np.float64) / 2**53


def normals(salt: int, ids: Ids) -> Floats:
    """A standard normal number for every id, by Box and Muller."""
    radius = np.sqrt(-2.0 * np.log1p(-uniforms(salt, ids)))
    turn: Floats = radius * np.cos(2.0 * np.pi * uniforms(salt ^ OTHER, ids))
    return turn


def normal(*parts: object) -> float:
    """A standard normal number: the one that `normals` has for the id 0, without arrays of one number."""
    salt = key(*parts)
    radius = np.sqrt(-2.0 * np.log1p(-_uniform_of_zero(salt)))
    return float(radius * np.cos(2.0 * np.pi * _uniform_of_zero(salt ^ OTHER)))


def _uniform_of_zero(salt: int) -> float:
    """What `uniforms` has for the id 0."""
    x = (salt + GOLDEN) % SPAN
    x = ((x ^ (x >> 30)) * MIXERS[0]) % SPAN
    x = ((x ^ (x >> 27)) * MIXERS[1]) % SPAN
    return ((x ^ (x >> 31)) >> 11) / 2**53
