"""MinHash with banding: where in a table texts that are alike meet.

Broder 1997; Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", ch. 3. The same in every process: a
table that is made again from the same texts is the same.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.data.near import BANDS, POSITION_BITS, RUN

ROWS = 3  # of a band: a pair of likeness 0.8 is proposed with chance 0.97, one of 0.9 with 0.999
# Multiply and shift: universal for keys of 32 bits, in whole numbers that wrap at 2^64 (M. Dietzfelbinger, "Universal
# hashing and k-wise independent random variables via integer arithmetic without primes", 1996).
_chance = np.random.default_rng(1997)
FACTORS, SUMMANDS = _chance.integers(0, 1 << 64, (2, BANDS * ROWS, 1), dtype=np.uint64)
OF_A_RUN, OF_A_BAND = _chance.integers(0, 1 << 64, (2, 3), dtype=np.uint64)
HALF = np.uint64(32)

Places = list[tuple[int, int]]


def places(texts: Sequence[list[str]], slots: int) -> list[Places]:
    """Slot and tag in each band, of each text's words; none where it has no word.

    Args:
        slots: of a band.
    """
    full = [words for words in texts if words]
    if not full:
        return [[] for _ in texts]
    hashes, starts = _hashes(full)
    signatures = np.minimum.reduceat((FACTORS * hashes + SUMMANDS) >> HALF, starts, axis=1)
    keys = (signatures.reshape(BANDS, ROWS, len(full)) * OF_A_BAND[:, None]).sum(axis=1, dtype=np.uint64)
    tags = keys >> np.uint64(POSITION_BITS)
    firsts = np.arange(BANDS, dtype=np.uint64)[:, None] * np.uint64(slots)
    places = firsts + (keys >> np.uint64(64 - POSITION_BITS)) % np.uint64(slots)
    found = iter(zip(places.T.tolist(), tags.T.tolist(), strict=True))
    return [list(zip(*next(found), strict=True)) if words else [] for words in texts]


def _hashes(texts: Sequence[list[str]]) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
    """32 bits for each run of words of each text, one behind the other, and where each text's runs begin.

    A text that is shorter than a run is one.
    """
    padded = [[*words, *[""] * (RUN - len(words))] for words in texts]
    each = np.array(
        [zlib.crc32(word.encode("utf-8", "replace")) for words in padded for word in words], dtype=np.uint64
    )
    runs_of = np.array([len(words) - RUN + 1 for words in padded])
    ends = np.cumsum(runs_of)
    # Between the runs of two texts lie RUN - 1 that would be of both.
    where = np.arange(ends[-1]) + np.repeat(np.arange(len(padded)) * (RUN - 1), runs_of)
    mixed = sum(each[where + i] * OF_A_RUN[i] for i in range(RUN))
    return mixed >> HALF, ends - runs_of
