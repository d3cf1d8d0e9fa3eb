"""Near-duplicates: which pairs are found, one by one and a page at once, and the same in every process."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from app.data.minhash import places
from app.data.near import NearDuplicates, words_of
from app.text import jaccard, runs

WORDS = [f"w{number}" for number in range(500)]
PAIRS = 300


def pairs() -> list[tuple[str, str]]:
    """Texts of thirty words, and the same with the last one changed: 27 of 29 runs in common."""
    chance = random.Random(3)
    texts = [chance.sample(WORDS, 30) for _ in range(PAIRS)]
    return [(" ".join(words), " ".join([*words[:-1], "other"])) for words in texts]


@pytest.fixture
def kept() -> list[str]:
    return [first for first, _ in pairs()]


@pytest.fixture
def index(kept: list[str]) -> NearDuplicates:
    found = NearDuplicates(kept.__getitem__, 0.8, slots=1 << 14)
    found.expect(kept)
    for position, text in enumerate(kept):
        found.add(text, position)
    return found


def test_what_is_nearly_the_same_is_found_and_what_is_not_is_not(index: NearDuplicates) -> None:
    a, b = (runs(words_of(text)) for text in pairs()[0])
    assert jaccard(a, b) == 27 / 29
    assert sum(index.has(second) for _, second in pairs()) >= 0.98 * PAIRS
    chance = random.Random(4)
    assert not any(index.has(" ".join(chance.sample(WORDS, 30))) for _ in range(PAIRS))


def test_handles_links_case_and_punctuation_do_not_make_another_text(index: NearDuplicates, kept: list[str]) -> None:
    assert index.has(f"@ada {kept[7].upper()}! https://t.co/x")


@pytest.mark.parametrize("text", ["", "One", "one two", "one two three", "a b c d"])
def test_short_texts_are_like_themselves_alone(text: str) -> None:
    index = NearDuplicates(lambda _: text, 0.8, slots=64)
    assert not index.has(text)
    index.add(text, 0)
    assert index.has(text) is bool(text)
    assert not index.has(f"{text} and more of it")


def test_a_page_at_once_has_the_places_of_each_alone(kept: list[str]) -> None:
    page = [words_of(text) for text in ["", *kept[:20], "two words"]]
    assert places(page, 1024) == [places([words], 1024)[0] for words in page]
    assert places([], 1024) == []


def test_every_process_has_the_same_places() -> None:
    code = "from app.data.minhash import places; print(places([['one', 'two', 'three', 'four']], 1024))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(places([["one", "two", "three", "four"]], 1024))
