"""What can be measured in a text: each trait a smooth number from 0 (absent) to 1 (full).

A community's taste is a set of weights on these. They see the text, the post it answers and the topic's
vocabulary, and nothing of who wrote it. `communities/README.md` describes them for authors of communities.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import exp, fsum

import wordfreq

from app.sandbox.lexicon import lexicon
from app.text import MENTION, URL, shingles

WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
NUMBER = re.compile(r"(?<![\w])\d[\d.,:]*\s?%?")
HASHTAG = re.compile(r"(?<!\w)#\w+")
SENTENCE_START = re.compile(r"(?:^|[.!?:\n\"“]\s*)\s*$")
FINISHED = re.compile(r"[.!?…。！？](?:[\"”“’')\]]|\s|[\U0001F300-\U0001FAFF☀-➿️])*$")
COMMON_ZIPF = 5.0  # a word of everyday prose occurs at least 100 times in a million
RARE_ZIPF = 4.2


@lru_cache(maxsize=65536)
def zipf(word: str, language: str) -> float:
    """How common a word is: log10 of its occurrences in a thousand million words; 0 if unknown."""
    return float(wordfreq.zipf_frequency(word, language))


def words_of(text: str) -> list[str]:
    """Words in lower case, without links, mentions and hashtag signs."""
    return [word.replace("’", "'").lower() for word in WORD.findall(MENTION.sub(" ", URL.sub(" ", text)))]


def stem(word: str) -> str:
    """A rough stem, so that `tram` and `trams` are one word."""
    return word[:-1][:7] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word[:7]


@dataclass(frozen=True)
class Subject:
    """What a text is about: the post it answers, if any, and the vocabulary of its topic."""

    parent: str = ""
    topic_words: frozenset[str] = frozenset()

    def rarity(self, language: str) -> dict[str, float]:
        """Stems that count as to the point, with their weight: the rarer the word, the more it says."""
        return _rarity(self, language)


@lru_cache(maxsize=4096)
def _rarity(subject: Subject, language: str) -> dict[str, float]:
    # Words of one stem count as their rarest: the order of a set is another in every process.
    found: dict[str, float] = {}
    for share, words in ((0.5, subject.topic_words), (1.0, words_of(subject.parent))):
        for word in words:
            found[stem(word)] = max(found.get(stem(word), 0.0), share * _weight(word, language))
    return found


def _weight(word: str, language: str) -> float:
    return max(0.0, min(3.0, COMMON_ZIPF + 0.5 - zipf(word, language)))


@dataclass(frozen=True)
class Reading:
    """A text with everything that the traits look at, each computed once."""

    text: str
    subject: Subject
    language: str

    @cached_property
    def words(self) -> list[str]:
        return words_of(self.text)

    @cached_property
    def body(self) -> str:
        return MENTION.sub(" ", URL.sub(" ", self.text)).strip()

    def hits(self, name: str) -> int:
        """How often entries of a lexicon occur."""
        pattern = _pattern(self.language, name)
        return len(pattern.findall(self.text.replace("’", "'").lower()))


@lru_cache(maxsize=64)
def _pattern(language: str, name: str) -> re.Pattern[str]:
    entries = sorted(getattr(lexicon(language), name), key=len, reverse=True)
    return re.compile(r"(?<![\w'])(?:" + "|".join(map(re.escape, entries)) + r")(?![\w])")


def saturate(amount: float, scale: float) -> float:
    """0 at nothing, 0.63 at `scale`, 1 at plenty."""
    return 1.0 - exp(-max(0.0, amount) / scale)


def relevance(r: Reading) -> float:
    weights = r.subject.rarity(r.language)
    shared = {stem(word) for word in r.words} & weights.keys()
    return saturate(fsum(weights[word] for word in shared), 3.0)


def concreteness(r: Reading) -> float:
    numbers = len(NUMBER.findall(r.body))
    rare = {stem(w) for w in r.words if 1.5 < zipf(w, r.language) < RARE_ZIPF}
    return saturate(1.2 * numbers + 0.8 * _names(r) + 0.35 * len(rare), 2.5)


def _names(r: Reading) -> int:
    return len(_capitalised(r.body)) if lexicon(r.language).capitals == "names" else 0


def _capitalised(body: str) -> list[str]:
    """Words that begin with a capital though no sentence begins with them."""
    return [
        word
        for match in WORD.finditer(body)
        if (word := match.group())[0].isupper()
        and len(word) > 1
        and not word.isupper()
        and "'" not in word
        and not SENTENCE_START.search(body[: match.start()])
    ]


def question(r: Reading) -> float:
    return saturate(min(3, len(re.findall(r"[?？]+", r.body))), 0.8)


def first_person(r: Reading) -> float:
    return saturate(r.hits("first_person"), 1.5)


def warmth(r: Reading) -> float:
    return saturate(r.hits("warmth"), 1.2)


def hedging(r: Reading) -> float:
    return saturate(r.hits("hedging"), 1.2)


def certainty(r: Reading) -> float:
    return saturate(r.hits("certainty"), 1.2)


def reasoning(r: Reading) -> float:
    return saturate(r.hits("reasoning"), 1.5)


def stock_phrases(r: Reading) -> float:
    return saturate(r.hits("stock_phrases"), 1.0)


def hostility(r: Reading) -> float:
    return saturate(r.hits("hostility") + 0.5 * (_shouting(r) > 0.5), 1.0)


def _shouting(r: Reading) -> float:
    long_words = [word for word in WORD.findall(r.body) if len(word) > 3]
    return sum(word.isupper() for word in long_words) / len(long_words) if len(long_words) > 3 else 0.0


def brevity(r: Reading) -> float:
    count = len(r.words)
    return saturate(count, 4.0) / (1.0 + exp((count - 26) / 5.0))


def finished(r: Reading) -> float:
    return 1.0 if FINISHED.search(r.body) else 0.0


def echo(r: Reading) -> float:
    mine, theirs = shingles(r.body), shingles(r.subject.parent)
    return len(mine & theirs) / len(mine) if mine and r.subject.parent else 0.0


def hashtags(r: Reading) -> float:
    return saturate(len(HASHTAG.findall(r.text)), 1.0)


def exclamation(r: Reading) -> float:
    return saturate(len(re.findall(r"[!！]", r.text)), 1.2)


TRAITS: dict[str, Callable[[Reading], float]] = {
    trait.__name__: trait
    for trait in (
        relevance, concreteness, question, first_person, warmth, hedging, certainty, reasoning,
        stock_phrases, hostility, brevity, finished, echo, hashtags, exclamation,
    )
}  # fmt: skip


def measure(text: str, subject: Subject, language: str) -> dict[str, float]:
    """Every trait of a text, by name, each between 0 and 1."""
    reading = Reading(text, subject, language)
    return {name: trait(reading) for name, trait in TRAITS.items()}


def salient(text: str, language: str, vocabulary: Mapping[str, str] | None = None) -> str | None:
    """The word that a text is most about: of the topic's vocabulary if it has one, else its rarest known word.

    Where nouns have capitals it is a noun, because only that fits into any sentence.

    Args:
        vocabulary: words in lower case, to how they are written.
    """
    known = vocabulary or {}
    words = [word for word in words_of(text) if len(word) > 3]
    spelt = dict(known)
    if lexicon(language).capitals == "nouns":
        spelt = {word.lower(): word for word in _capitalised(text)} | spelt
        words = [word for word in words if word in spelt]
    candidates = [word for word in words if word in known] or [w for w in words if 2.0 < zipf(w, language) < 4.8]
    found = min(candidates, key=lambda word: zipf(word, language)) if candidates else None
    return None if found is None else spelt.get(found, found)
