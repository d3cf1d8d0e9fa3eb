"""What a reply or a quote says of our post: with it, or against it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

# VADER reads English; X marks texts too short to tell as `und`.
READABLE_LANGUAGES = frozenset({None, "en", "und"})
# The threshold that VADER's authors give for a negative text (Hutto & Gilbert 2014; the package's README).
HOSTILE_BELOW = -0.05


def stance(text: str, lang: str | None = "en") -> float | None:
    """The tone of a text from −1 (hostile) to 1 (warm), or None where the language cannot be read.

    >>> stance("I love this, thank you!") > 0.5
    True
    >>> stance("this is garbage and you are a liar") < -0.5
    True
    >>> stance("Das stimmt nicht.", "de") is None
    True
    """
    if lang not in READABLE_LANGUAGES:
        return None
    return float(_analyser().polarity_scores(text)["compound"])


def sign(value: float) -> int:
    """−1 for a hostile text, +1 for any other: to be answered without hostility is what was wanted.

    >>> sign(-0.4), sign(0.0), sign(0.7)
    (-1, 1, 1)
    """
    return -1 if value <= HOSTILE_BELOW else 1


@lru_cache(maxsize=1)
def _analyser() -> SentimentIntensityAnalyzer:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer  # reads its lexicon: 20 ms and some memory

    return SentimentIntensityAnalyzer()
