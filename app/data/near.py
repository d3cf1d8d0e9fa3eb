"""Near-duplicates among millions of posts, in a fixed amount of memory.

MinHash with banding (`app/data/minhash.py`) proposes a post that was kept before, and the two texts themselves decide.
The table is a function of the records in the files, in their order: read again after a kill, it decides the same.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable, Iterable

from app.text import MENTION, canonical, jaccard, runs

RUN = 3  # words
BANDS = 5
SLOTS = 1 << 21  # per band: 80 MiB in all; beyond some two million posts the older ones are forgotten by chance
POSITION_BITS = 42
POSITION_MASK = (1 << POSITION_BITS) - 1
WORD = re.compile(r"[^\W_]+")


def words_of(text: str) -> list[str]:
    """A text as near-duplicates are compared: its words in one case; handles, links and punctuation do not count."""
    return WORD.findall(canonical(MENTION.sub(" ", text)))


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
        self._expected: dict[str, tuple[list[str], list[tuple[int, int]]]] = {}
        self._table = memoryview(self._memory).cast("Q")

    def expect(self, texts: Iterable[str]) -> None:
        """Work out at once what the next calls will ask for, which for a page costs a fraction of one by one."""
        from app.data.minhash import places  # numpy, only for whoever gathers

        words = {text: words_of(text) for text in texts}
        self._expected = dict(
            zip(words, zip(words.values(), places(list(words.values()), self._slots), strict=True), strict=True)
        )

    def has(self, text: str) -> bool:
        """Whether a text like this one was added before."""
        words, places = self._look_up(text)
        seen: set[int] = set()
        for slot, tag in places:
            entry = self._table[slot]
            position = (entry & POSITION_MASK) - 1
            if entry == 0 or entry >> POSITION_BITS != tag or position in seen:
                continue
            seen.add(position)
            other = self._text_at(position)
            if other is not None and jaccard(runs(words, RUN), runs(words_of(other), RUN)) >= self._likeness:
                return True
        return False

    def add(self, text: str, position: int) -> None:
        """Remember a text that was kept, by where it stands."""
        for slot, tag in self._look_up(text)[1]:
            self._table[slot] = tag << POSITION_BITS | (position + 1)

    def close(self) -> None:
        self._table.release()
        self._memory.close()

    def _look_up(self, text: str) -> tuple[list[str], list[tuple[int, int]]]:
        """The words of a text, and its slot and tag in each band."""
        if text not in self._expected:
            self.expect([text])
        return self._expected[text]
