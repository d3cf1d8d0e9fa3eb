"""Posts, as the sandbox keeps them, and their ids, which say when they were made."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

EPOCH_MS = 1_288_834_974_657  # https://github.com/twitter-archive/snowflake: the moment that ids count from
LOW_BITS = 22

Kind = Literal["post", "reply", "quote", "repost"]
# What a text is worth reading for. Only the community knows; the API never says.
Substance = Literal["news", "idea", "question", "talk", "empty", "answer", "bot"]


def snowflake(at: datetime, low: int) -> int:
    """The id of a post made at a moment; `low` (22 bits) tells posts of one millisecond apart."""
    return (to_ms(at) - EPOCH_MS) << LOW_BITS | (low & ((1 << LOW_BITS) - 1))


def moment_of(post_id: int) -> datetime:
    """When the post with this id was made, to the millisecond."""
    return from_ms((post_id >> LOW_BITS) + EPOCH_MS)


def to_ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def from_ms(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


@dataclass(frozen=True, slots=True)
class Post:
    """One post.

    Attributes:
        text: as X shows it, with the mention of the answered author in front of a reply.
        body_start: where the text proper begins, behind those mentions.
        target: what it answers, quotes or reposts.
        topic: name of the topic it is on, if it is on one.
        stance: -1 or 1 for what members answer to a post of the bot; never shown.
    """

    id: int
    author: int
    text: str
    kind: Kind = "post"
    target: int | None = None
    target_author: int | None = None
    root: int = 0
    body_start: int = 0
    topic: str | None = None
    substance: Substance = "talk"
    stance: int = 0

    @property
    def at(self) -> datetime:
        return moment_of(self.id)

    @property
    def body(self) -> str:
        return self.text[self.body_start :]

    @property
    def conversation(self) -> int:
        return self.root or self.id


class Shelf:
    """Every post, found by id, author, conversation, target or mention, in the order of ids.

    Posts may be shelved before their time; who reads says up to which id.
    """

    def __init__(self) -> None:
        self.by_id: dict[int, Post] = {}
        self.all: list[int] = []
        self.by_author: dict[int, list[int]] = defaultdict(list)
        self.by_conversation: dict[int, list[int]] = defaultdict(list)
        self.by_mention: dict[str, list[int]] = defaultdict(list)
        self._by_target: dict[tuple[str, int], list[int]] = defaultdict(list)

    def add(self, post: Post, mentions: Sequence[str]) -> None:
        """Put a post where it belongs. An id that is taken is refused by a KeyError."""
        if post.id in self.by_id:
            raise KeyError(post.id)
        self.by_id[post.id] = post
        insort(self.all, post.id)
        insort(self.by_author[post.author], post.id)
        insort(self.by_conversation[post.conversation], post.id)
        for handle in set(mentions):
            insort(self.by_mention[handle], post.id)
        if post.target is not None:
            insort(self._by_target[post.kind, post.target], post.id)

    def answering(self, kind: Kind, target: int) -> list[int]:
        """Ids of posts that answer, quote or repost a post."""
        return self._by_target.get((kind, target), [])

    def get(self, post_id: int, until: int) -> Post | None:
        """A post that has been made by now."""
        post = self.by_id.get(post_id)
        return post if post is not None and post.id <= until else None


def newest_first(ids: Sequence[int], since: int, until: int) -> Iterator[int]:
    """Ids above `since` and up to `until`, the newest first."""
    low, high = bisect_left(ids, since + 1), bisect_left(ids, until + 1)
    return (ids[i] for i in range(high - 1, low - 1, -1))


def count_until(ids: Sequence[int], until: int) -> int:
    """How many ids are not above `until`."""
    return bisect_left(ids, until + 1)
