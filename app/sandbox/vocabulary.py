"""The two vocabularies of X's API: `tweet.fields` up to 2.166 of its description, `post.fields` since 2.167.

What is known to have been renamed is in RENAMED; every other name is taken to be the same in both. A request may use
either, and is answered as it asked, unless the settings say in which vocabulary to answer whatever was asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from app.sandbox.settings import Vocabulary

RENAMED = {"tweet.fields": "post.fields", "referenced_tweets": "referenced_posts", "retweet_count": "repost_count"}
OLDER = {new: old for old, new in RENAMED.items()}


def read(given: Iterable[tuple[str, str]], answer_in: Vocabulary) -> tuple[dict[str, str], bool]:
    """Query parameters in the older vocabulary, a repeated one joined by commas; and whether to answer in the newer."""
    query: dict[str, str] = {}
    newer = answer_in == "post"
    for name, value in given:
        old_name, old_value = OLDER.get(name, name), value
        if old_name in {"tweet.fields", "expansions"}:
            old_value = ",".join(_renamed(part, OLDER) for part in value.split(","))
        newer = newer or (answer_in == "asked" and (old_name, old_value) != (name, value))
        query[old_name] = f"{query[old_name]},{old_value}" if old_name in query else old_value
    return query, newer


def write(body: Any) -> Any:
    """An answer in the newer vocabulary."""
    if isinstance(body, list):
        return [write(part) for part in body]
    if not isinstance(body, dict):
        return body
    return {
        RENAMED.get(name, name): _renamed(part, RENAMED) if name == "parameter" else write(part)
        for name, part in body.items()
    }


def _renamed(name: str, names: dict[str, str]) -> str:
    """A name, or a path that begins with it (`referenced_tweets.id`)."""
    first, dot, rest = name.partition(".")
    return names.get(name) or f"{names.get(first, first)}{dot}{rest}"
