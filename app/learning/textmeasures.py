"""What texts are like as texts: variety, length, copies, refusals, tone, how strange they are to the reference."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.learning.stance import stance
from app.text import canonical, similarity

COPY = 0.6  # Jaccard likeness of three-word runs at which two samples are one
HOSTILE = -0.5  # VADER compound from which a text is not only critical

Measures = dict[str, float]


@dataclass(frozen=True)
class Sampled:
    """A sample written for measuring. Log-probabilities are sums over its output tokens, in nats."""

    text: str
    tokens: int
    finished: bool
    refused_by: str | None
    own_logprob: float
    reference_logprob: float


def measure(samples: Sequence[Sampled]) -> Measures:
    """Measures of a set of samples; sets are comparable where they answer the same prompts.

    `kl_to_reference` is the mean of log π − log π_ref over what π wrote, an unbiased KL, and `reference_nll` how
    unlikely the reference thinks it: both per token.
    """
    texts = [sample.text for sample in samples]
    words = [canonical(text).split() for text in texts]
    tokens = max(sum(sample.tokens for sample in samples), 1)
    refusals = Counter(sample.refused_by for sample in samples if sample.refused_by)
    measures = {
        "samples": float(len(samples)),
        "words": float(np.mean([len(row) for row in words])),
        "tokens": tokens / len(samples),
        "unfinished": float(np.mean([not sample.finished for sample in samples])),
        "empty": float(np.mean([not row for row in words])),
        "distinct_1": distinct(words, 1),
        "distinct_2": distinct(words, 2),
        "repeated": float(np.mean([_repeated(row) for row in words])),
        "near_duplicates": near_duplicates(texts),
        "hostile": float(np.mean([(stance(text) or 0.0) <= HOSTILE for text in texts])),
        "letters": float(np.mean([_letters(text) for text in texts])),
        "refused": float(np.mean([sample.refused_by is not None for sample in samples])),
        "kl_to_reference": sum(s.own_logprob - s.reference_logprob for s in samples) / tokens,
        "reference_nll": -sum(s.reference_logprob for s in samples) / tokens,
    }
    return measures | {f"refused_{rule}": count / len(samples) for rule, count in sorted(refusals.items())}


def distinct(texts: Sequence[Sequence[str]], n: int) -> float:
    """Different n-grams per n-gram over all texts (Li et al. 2016, arXiv 1510.03055)."""
    grams = [gram for words in texts for gram in _grams(words, n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def near_duplicates(texts: Sequence[str]) -> float:
    """Share of texts that are nearly the same as another of the set."""
    copies = [
        any(similarity(text, other) >= COPY for j, other in enumerate(texts) if i != j) for i, text in enumerate(texts)
    ]
    return float(np.mean(copies))


def _repeated(words: Sequence[str]) -> float:
    """Share of a text's word pairs that it has said before (seq-rep-2, Welleck et al. 2019, arXiv 1908.04319)."""
    pairs = _grams(words, 2)
    return 1 - len(set(pairs)) / len(pairs) if pairs else 0.0


def _grams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _letters(text: str) -> float:
    visible = re.sub(r"\s", "", text)
    return sum(char.isalpha() for char in visible) / len(visible) if visible else 0.0
