"""Near-duplicates among millions of posts, in a fixed amount of memory.

MinHash with banding (Broder 1997; Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", ch. 3) proposes a post
that was kept before, and the two texts themselves decide. The table is a function of the records in the files, in their
order: read again after a kill, it decides the same.
"""

from __future__ import annotations

import mmap
import random
import re
import zlib
from collections.abc import Callable, Iterator

from app.text import MENTION, canonical, shingles, similarity

BANDS, ROWS = 5, 3  # a pair of likeness 0.8 is proposed with chance 0.97, one of 0.9 with 0.999
SLOTS = 1 << 21  # per band: 80 MiB in all; beyond some two million posts the older ones are forgotten by chance
PRIME = (1 << 61) - 1
POSITION_BITS = 42
POSITION_MASK = (1 << POSITION_BITS) - 1
WORD = re.compile(r"[^\W_]+")
_chance = random.Random(1997)
HASHES = [(_chance.randrange(1, PRIME), _chance.randrange(PRIME)) for _ in range(BANDS * ROWS)]


def words_alone(text: str) -> str:
    """A text as near-duplicates are compared: its words in one case; handles, links and punctuation do not count."""
    return " ".join(WORD.findall(canonical(MENTION.sub(" ", text))))


class NearDuplicates:
    """Which texts are like one seen before.

    Args:
        text_at: the text at a position, None if it is not there any more.
        likeness: Jaccard similarity of runs of three words from which two texts are duplicates, 0 to 1.
        slots: entries per band; 8 bytes each, of which only those in use take memory.
    """

    def __init__(self, text_at: Callable[[int], str | None], likeness: float, slots: int = SLOTS) -> None:
        self._text_at = text_at
        self._likeness = likeness
        self._slots = slots
        self._memory = mmap.mmap(-1, BANDS * slots * 8)
        self._last: tuple[str, list[tuple[int, int]]] = ("", [])
        self._table = memoryview(self._memory).cast("Q")

    def has(self, text: str) -> bool:
        """Whether a text like this one was added before."""
        plain = words_alone(text)
        seen: set[int] = set()
        for slot, tag in self._places(plain):
            entry = self._table[slot]
            position = (entry & POSITION_MASK) - 1
            if entry == 0 or entry >> POSITION_BITS != tag or position in seen:
                continue
            seen.add(position)
            other = self._text_at(position)
            if other is not None and similarity(plain, words_alone(other)) >= self._likeness:
                return True
        return False

    def add(self, text: str, position: int) -> None:
        """Remember a text that was kept, by where it stands."""
        for slot, tag in self._places(words_alone(text)):
            self._table[slot] = tag << POSITION_BITS | (position + 1)

    def close(self) -> None:
        self._table.release()
        self._memory.close()

    def _places(self, plain: str) -> list[tuple[int, int]]:
        """Slot and tag of a text in each band. The last ones are kept: who asks for a text mostly adds it next."""
        if self._last[0] != plain:
            self._last = (plain, list(self._bands(plain)))
        return self._last[1]

    def _bands(self, plain: str) -> Iterator[tuple[int, int]]:
        hashes = [zlib.crc32(" ".join(run).encode()) for run in shingles(plain)]
        if not hashes:
            return
        signature = [min((a * h + b) % PRIME for h in hashes) for a, b in HASHES]
        for band in range(BANDS):
            # The hash of a tuple of whole numbers is the same in every process.
            key = hash(tuple(signature[band * ROWS : (band + 1) * ROWS])) & (1 << 64) - 1
            yield band * self._slots + key % self._slots, key >> POSITION_BITS
