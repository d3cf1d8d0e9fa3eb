"""Is this language at all? A judgement that owes nothing to the model that the bot writes with.

Three looks at a text, multiplied, because nonsense fails at least one of them:
- **words**: are they words (frequencies by `wordfreq`), or at least built like words (letter trigrams), and of this
  language rather than of another one that the sandbox knows?
- **order**: do they follow each other like words of prose, more than the same words in a bag would? A trigram model
  over classes of words, trained on the community's own corpus and on the lexicon's plain sentences, which knows
  grammar and no opinions;
- **repetition**: does it say things once?
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import log

import wordfreq

from app.sandbox.lexicon import languages, lexicon
from app.sandbox.traits import WORD, words_of, zipf
from app.text import MENTION, URL

TOKEN = re.compile(rf"{WORD.pattern}|\d[\d.,:]*%?|[.!?,;:]")
FREQUENT = 220  # words that may be repeated
PROSE_WEIGHT = 5  # a sentence of the lexicon counts as much as a template of the community, which is filled five times


def step(value: float, low: float, high: float) -> float:
    """0 below `low`, 1 above `high`, smooth between (3x² - 2x³)."""
    x = min(1.0, max(0.0, (value - low) / (high - low)))
    return x * x * (3.0 - 2.0 * x)


class Fluency:
    """Judges texts of one language against one community's corpus."""

    def __init__(self, language: str, corpus: Iterable[str]) -> None:
        self.language = language
        self._frequent = frozenset(wordfreq.top_n_list(language, FREQUENT))
        self._others = [other for other in languages() if other != language]
        known = lexicon(language)
        self._grammar = {word: name for name, words in known.grammar.items() for word in words}
        self._contractions, self._endings = known.contractions, known.endings
        self._letters = _Ngrams(3)
        texts = [*corpus, *known.prose * PROSE_WEIGHT]
        vocabulary = {word for text in texts for word in words_of(text)}
        for word in vocabulary.union(wordfreq.top_n_list(language, 4000)):
            self._letters.learn(f"^{word}$")
        self._vocabulary = vocabulary
        self._order = _Ngrams(3)
        for text in texts:
            self._order.learn(self._classes(text))

    def score(self, text: str) -> float:
        """From 0 (nonsense: nobody answers it) to 1 (reads like a person wrote it)."""
        words = words_of(text)
        if not words:
            return 0.0
        return (
            step(self.wordness(words), 0.55, 0.9)
            * step(self.order(text), -0.12, 0.2)
            * step(self.freshness(words), 0.35, 0.7)
        )

    def wordness(self, words: Sequence[str]) -> float:
        """Mean over words of how sure we are that each is one."""
        return sum(self._is_word(word) for word in words) / len(words)

    def _is_word(self, word: str) -> float:
        if word in self._vocabulary:
            return 1.0
        here = zipf(word, self.language)
        built = 0.6 * step(self._letters.mean_log(f"^{word}$"), -3.2, -2.2)
        # People drop words of other languages, and frequencies count those too; there they are far more common.
        elsewhere = max((zipf(word, other) for other in self._others), default=0.0)
        return max(step(here, 1.0, 2.6), built) * (1.0 - step(elsewhere - here, 1.2, 2.0))

    def order(self, text: str) -> float:
        """Nats a token by which the order of the text beats the bag of its words."""
        return self._order.gain(self._classes(text))

    def freshness(self, words: Sequence[str]) -> float:
        """1 where nothing is said twice; repeated words and runs of words bring it down."""
        content = [word for word in words if word not in self._frequent]
        pairs = list(pairwise(words))
        distinct = len(set(content)) / len(content) if content else 0.6
        runs = len(set(pairs)) / len(pairs) if pairs else 1.0
        return min(distinct, runs)

    def _classes(self, text: str) -> list[str]:
        plain = MENTION.sub(" ", URL.sub(" ", text)).replace("’", "'")
        tokens = TOKEN.findall(plain.lstrip(" ,:"))
        return ["^", *(name for part in tokens for name in self._split(part.lower())), "$"]

    def _split(self, token: str) -> list[str]:
        """The class of a word; of both halves, where it is shortened (don't: do, not)."""
        for tail, name in self._contractions.items():
            if token.endswith(tail) and len(token) > len(tail):
                return [self._class(token.removesuffix(tail)), name]
        return [self._class(token)]

    def _class(self, word: str) -> str:
        if not word[0].isalnum():
            return "." if word in ".!?" else ","
        if word[0].isdigit():
            return "0"
        found = self._grammar.get(word)
        return found or next((ending for ending in self._endings if word.endswith(ending)), "word")


class _Ngrams:
    """Interpolated n-gram counts over a sequence of symbols."""

    WEIGHTS = (0.15, 0.4, 0.45)

    def __init__(self, size: int) -> None:
        self._counts: list[Counter[tuple[str, ...]]] = [Counter() for _ in range(size)]
        self._contexts: list[Counter[tuple[str, ...]]] = [Counter() for _ in range(size)]

    def learn(self, symbols: Sequence[str]) -> None:
        for size, (counts, contexts) in enumerate(zip(self._counts, self._contexts, strict=True), start=1):
            grams = [tuple(symbols[i : i + size]) for i in range(len(symbols) - size + 1)]
            counts.update(grams)
            contexts.update(gram[:-1] for gram in grams)

    def _single(self, symbol: str) -> float:
        total = self._contexts[0][()]
        return (self._counts[0][(symbol,)] + 0.5) / (total + 0.5 * (len(self._counts[0]) + 1))

    def chance(self, symbols: Sequence[str], at: int) -> float:
        """Probability of the symbol at a place, given those before it."""
        found = self.WEIGHTS[0] * self._single(symbols[at])
        spare = 0.0
        for size in range(2, len(self._counts) + 1):
            gram = tuple(symbols[max(0, at - size + 1) : at + 1])
            context = self._contexts[size - 1][gram[:-1]] if len(gram) == size else 0
            if context:
                found += self.WEIGHTS[size - 1] * self._counts[size - 1][gram] / context
            else:
                spare += self.WEIGHTS[size - 1]
        return found + spare * self._single(symbols[at])

    def mean_log(self, symbols: Sequence[str]) -> float:
        """Mean log-probability of the symbols after the first, in nats."""
        places = range(1, len(symbols))
        return sum(log(self.chance(symbols, at)) for at in places) / max(1, len(places))

    def gain(self, symbols: Sequence[str]) -> float:
        """Mean over symbols of how much more likely each is in its place than anywhere, in nats."""
        places = range(1, len(symbols))
        total = sum(log(self.chance(symbols, at) / self._single(symbols[at])) for at in places)
        return total / max(1, len(places))
