"""What X counts and compares in a text: its weighted length, its links and mentions, its canonical form.

Rules: https://docs.x.com/fundamentals/counting-characters. The counting itself is twitter-text's.
"""

from __future__ import annotations

import difflib
import hashlib
import html
import importlib
import re
import unicodedata
import warnings
from collections.abc import Callable, Sequence, Set
from functools import cache
from types import ModuleType

MAX_WEIGHTED_LENGTH = 280
# Each begins with a literal where it can, and looks behind that, because `re` leaps from one literal to the next.
URL = re.compile(r"https?://\S+", re.IGNORECASE)
DOTTED = re.compile(r"\.(?<=\w\.)\w")  # without such a dot there is no link, and twitter-text need not look
MENTION = re.compile(r"@(?<![\w@/.]@)([A-Za-z0-9_]{1,15})(?![\w@])")
ADDRESSEES = re.compile(r"^(?:\s*@[A-Za-z0-9_]{1,15}(?![\w@]))+\s*")
WHITE_SPACE = re.compile(r"\s+")


@cache
def _twitter_text() -> ModuleType:
    """Its tables take longer to read than all the rest of a sandbox's imports, and many a process never counts."""
    with warnings.catch_warnings():
        # It reads them through pkg_resources, which warns on every import.
        warnings.simplefilter("ignore")
        return importlib.import_module("twitter_text")


def weighted_length(text: str) -> int:
    """Length as X counts it: NFC, a URL is 23, most of CJK and any emoji is 2."""
    return int(_twitter_text().parse_tweet(text).weightedLength)


def fits(text: str) -> bool:
    """Whether X would take the text as one post: not empty, not too long, none of the characters that it refuses."""
    return bool(text.strip()) and bool(_twitter_text().parse_tweet(text).valid)


def has_link(text: str) -> bool:
    """Whether X would make a link of some part of the text, which it does to `example.com` too."""
    return bool(_twitter_text().extract_urls(text))


def mentions(text: str) -> list[str]:
    """Handles mentioned in a text, without the @, in lower case, in order."""
    return [handle.lower() for handle in MENTION.findall(text)]


def without_addressees(text: str) -> str:
    """A reply without the handles in front, which X puts there (`@author …`) and our own text does not have."""
    return ADDRESSEES.sub("", text)


def links(text: str) -> list[str]:
    """The links of a text, in order: those that twitter-text sees, and beside them whatever has a scheme."""
    return [text[start:end] for start, end in _link_spans(text)]


def replace_links(text: str, replacement: Callable[[str], str]) -> str:
    """The text with each of its links replaced."""
    for start, end in reversed(_link_spans(text)):
        text = text[:start] + replacement(text[start:end]) + text[end:]
    return text


def _link_spans(text: str) -> list[tuple[int, int]]:
    seen = _twitter_text().extract_urls_with_indices(text) if DOTTED.search(text) else []
    if not seen and "://" not in text:
        return []
    spans, done = list[tuple[int, int]](), 0
    for start, end in [*(link["indices"] for link in seen), (len(text), len(text))]:
        spans += [match.span() for match in URL.finditer(text, done, start)]
        spans += [(start, end)] if start < end else []
        done = end
    return spans


def canonical(text: str) -> str:
    """The form in which two texts are the same post: entities unescaped, links dropped, NFKC, one case.

    X escapes `&`, `<` and `>` in what it returns and replaces links by t.co ones, so a text that comes
    back can only be matched in this form. A text may hold entities of its own, which X escapes once more: both
    forms are unescaped until nothing is left to unescape.
    """
    plain = text
    while (once := html.unescape(plain)) != plain:
        plain = once
    plain = unicodedata.normalize("NFKC", _without_links(plain))
    return WHITE_SPACE.sub(" ", _without_links(plain)).strip().casefold()


def _without_links(text: str) -> str:
    return replace_links(text, lambda _: " ")


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
    return runs(canonical(text).split(), size)


def runs(words: Sequence[str], size: int = 3) -> set[tuple[str, ...]]:
    """Overlapping runs of `size` words; all of them together if there are no more."""
    if len(words) <= size:
        return {tuple(words)} if words else set()
    return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}


def similarity(left: str, right: str) -> float:
    """Jaccard similarity of the shingles of two texts, 0 to 1. 1 means the same words in the same order."""
    return jaccard(shingles(left), shingles(right))


def jaccard(a: Set[tuple[str, ...]], b: Set[tuple[str, ...]]) -> float:
    """What two sets have in common, as a share of all that is in either, 0 to 1; 0 where one is empty."""
    return len(a & b) / len(a | b) if a and b else 0.0
