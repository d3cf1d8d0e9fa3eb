"""A post of the data set: as a source gives it, and as one line of a file."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from app.text import ADDRESSEES, MENTION


@dataclass(frozen=True, slots=True)
class SourcePost:
    """A post as a source gives it. What the source does not say is None.

    Attributes:
        parent_text: the post that it answers; None if it answers none, or that one could not be had.
        parent_author_id: X id of whoever wrote that.
        reposted: whether it only repeats another post.
    """

    post_id: str
    author_id: str
    text: str
    created_at: datetime | None = None
    lang: str | None = None
    in_reply_to_post_id: str | None = None
    parent_text: str | None = None
    reposted: bool = False
    parent_author_id: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A post as it stands in a file. `created_at` is ISO 8601 in UTC."""

    post_id: str
    author_id: str
    text: str
    created_at: str | None = None
    lang: str | None = None
    in_reply_to_post_id: str | None = None
    parent_handle: str | None = None
    parent_text: str | None = None
    parent_author_id: str | None = None


NAMES = tuple(field.name for field in fields(Record))
FIELDS = frozenset(NAMES)
LINE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def record_of(post: SourcePost) -> Record:
    """What is kept of a post. Who is answered is the first handle in front of a reply, where X puts it."""
    front = ADDRESSEES.match(post.text) if post.in_reply_to_post_id else None
    answered = MENTION.search(front.group()) if front else None
    return Record(
        post_id=post.post_id,
        author_id=post.author_id,
        text=post.text,
        created_at=post.created_at.isoformat() if post.created_at else None,
        lang=post.lang,
        in_reply_to_post_id=post.in_reply_to_post_id,
        parent_handle=answered.group(1) if answered else None,
        parent_text=post.parent_text,
        parent_author_id=post.parent_author_id if post.parent_text is not None else None,
    )


def encode(record: Record) -> bytes:
    """One line of JSON without its line feed; nothing that is not known is written."""
    known = {name: value for name in NAMES if (value := getattr(record, name)) is not None}
    # A lone surrogate, which a broken source may hold, has no UTF-8.
    return LINE.encode(known).encode("utf-8", "replace")


def decode(line: bytes) -> Record | None:
    """A line of a file; None where a post was forgotten.

    Raises:
        ValueError: it is not a record.
    """
    raw: Any = json.loads(line)
    if raw is None:
        return None
    if not isinstance(raw, dict) or not {"post_id", "author_id", "text"} <= raw.keys():
        raise ValueError(f"no post of the data set: {line[:80]!r}")
    return Record(**{name: value for name, value in raw.items() if name in FIELDS})
