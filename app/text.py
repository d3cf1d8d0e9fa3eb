"""What X counts and compares in a text: its weighted length, its links and mentions, its canonical form.

Rules: https://docs.x.com/fundamentals/counting-characters. The counting itself is twitter-text's.
"""

from __future__ import annotations

import difflib
import hashlib
import html
import re
import unicodedata
import warnings

with warnings.catch_warnings():
    # twitter-text-parser reads its tables through pkg_resources, which warns on every import.
    warnings.simplefilter("ignore")
    import twitter_text

MAX_WEIGHTED_LENGTH = 280
URL = re.compile(r"https?://\S+", re.IGNORECASE)
MENTION = re.compile(r"(?<![\w@/.])@([A-Za-z0-9_]{1,15})(?![\w@])")
ADDRESSEES = re.compile(r"^(?:\s*@[A-Za-z0-9_]{1,15}(?![\w@]))+\s*")
WHITE_SPACE = re.compile(r"\s+")


def weighted_length(text: str) -> int:
    """Length as X counts it: NFC, a URL is 23, most of CJK and any emoji is 2."""
    return int(twitter_text.parse_tweet(text).weightedLength)


def fits(text: str) -> bool:
    """Whether X would take the text as one post: not empty, not too long, none of the characters that it refuses."""
    return bool(text.strip()) and bool(twitter_text.parse_tweet(text).valid)


def has_link(text: str) -> bool:
    """Whether X would make a link of some part of the text, which it does to `example.com` too."""
    return bool(twitter_text.extract_urls(text))


def mentions(text: str) -> list[str]:
    """Handles mentioned in a text, without the @, in lower case, in order."""
    return [handle.lower() for handle in MENTION.findall(text)]


def without_addressees(text: str) -> str:
    """A reply without the handles in front, which X puts there (`@author …`) and our own text does not have."""
    return ADDRESSEES.sub("", text)


def canonical(text: str) -> str:
    """The form in which two texts are the same post: entities unescaped, links dropped, NFKC, one case.

    X escapes `&`, `<` and `>` in what it returns and replaces links by t.co ones, so a text that comes
    back can only be matched in this form.
    """
    plain = unicodedata.normalize("NFKC", html.unescape(text))
    return WHITE_SPACE.sub(" ", URL.sub(" ", plain)).strip().casefold()


def text_hash(text: str) -> str:
    """A hash of the canonical form, in hex. Equal for posts that X would call duplicates."""
    return hashlib.sha256(canonical(text).encode()).hexdigest()


def likeness(left: str, right: str) -> float:
    """Share of characters that the canonical forms of two texts have in common, in order: 1 for the same text, 0 to 1.

    Unlike `similarity` it stays high where a person mends a few words of a short text.

    >>> round(likeness("The tram is late again.", "The tram is late, as ever."), 2)
    0.78
    """
    return difflib.SequenceMatcher(None, canonical(left), canonical(right), autojunk=False).ratio()


def shingles(text: str, size: int = 3) -> set[tuple[str, ...]]:
    """Overlapping runs of `size` words of the canonical form; the whole text if it is shorter."""
    words = canonical(text).split()
    if len(words) <= size:
        return {tuple(words)} if words else set()
    return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}


def similarity(left: str, right: str) -> float:
    """Jaccard similarity of the shingles of two texts, 0 to 1. 1 means the same words in the same order."""
    a, b = shingles(left), shingles(right)
    return len(a & b) / len(a | b) if a and b else 0.0
