"""Posts, as the sandbox keeps them, and their ids, which say when they were made."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from app.text import mentions

EPOCH_MS = 1_288_834_974_657  # https://github.com/twitter-archive/snowflake: the moment that ids count from
LOW_BITS = 22
HOUR_MS = 3_600_000
ANSWERED_HOURS = 7  # members answer within six, counted from the hour's end

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


@dataclass(frozen=True)
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

    @property
    def mentioned(self) -> list[str]:
        """Handles that the text mentions, in lower case."""
        return mentions(self.text)


class Shelf:
    """Every post, found by id, author, conversation, target or mention, in the order of ids.

    Posts may be shelved before their time; who reads says up to which id. Where a post stands in a thread may be looked
    at later, an hour at a time, when somebody asks who answered what in it: most of a long history is never asked for.
    """

    def __init__(self) -> None:
        self.by_id: dict[int, Post] = {}
        self.all: list[int] = []
        self.by_author: dict[int, list[int]] = defaultdict(list)
        self._answers: dict[int, list[int]] = defaultdict(list)
        self._by_mention: dict[str, list[int]] = defaultdict(list)
        self._by_target: dict[tuple[str, int], list[int]] = defaultdict(list)
        self._unplaced: dict[int, list[Post]] = defaultdict(list)  # by hour since 1970

    def add(self, post: Post, *, later: bool = False) -> None:
        """Put a post where it belongs; with `later`, into its thread only when that is asked for.

        Raises:
            KeyError: the id is taken.
        """
        post_id = post.id
        if post_id in self.by_id:
            raise KeyError(post_id)
        self.by_id[post_id] = post
        _insert(self.all, post_id)
        _insert(self.by_author[post.author], post_id)
        if later:
            self._unplaced[_hour_of(post_id)].append(post)
        else:
            self._place(post)

    def _place(self, post: Post) -> None:
        post_id, target = post.id, post.target
        if post.root:
            _insert(self._answers[post.root], post_id)
        for handle in set(post.mentioned):
            _insert(self._by_mention[handle], post_id)
        if target is not None:
            _insert(self._by_target[post.kind, target], post_id)

    def conversation(self, root: int) -> list[int]:
        """Ids of the posts of a conversation, with the one that it began with."""
        self._place_hours(max(_hour_of(root), min(self._unplaced, default=0)), max(self._unplaced, default=0))
        answers = self._answers.get(root, [])
        return [root, *answers] if root in self.by_id and self.by_id[root].conversation == root else answers

    def answering(self, kind: Kind, target: int) -> list[int]:
        """Ids of posts that answer, quote or repost a post."""
        self._place_hours(_hour_of(target), _hour_of(target) + ANSWERED_HOURS)
        return self._by_target.get((kind, target), [])

    def mentioning(self, handle: str, since: int, until: int) -> Iterator[int]:
        """Ids of posts that mention a handle, above `since` and up to `until`, the newest first."""
        low, high = _hour_of(since), _hour_of(until)
        for hour in sorted((hour for hour in self._unplaced if low <= hour <= high), reverse=True):
            self._place_hours(hour, hour)
            yield from newest_first(self._by_mention.get(handle, []), max(since, _first_of(hour) - 1), until)
            until = min(until, _first_of(hour) - 1)
        yield from newest_first(self._by_mention.get(handle, []), since, until)

    def _place_hours(self, first: int, last: int) -> None:
        """Look at where the posts of some hours stand, if that has not been done."""
        if self._unplaced:
            for hour in range(first, last + 1):
                for post in self._unplaced.pop(hour, ()):
                    self._place(post)

    def get(self, post_id: int, until: int) -> Post | None:
        """A post that has been made by now."""
        post = self.by_id.get(post_id)
        return post if post is not None and post.id <= until else None


def _hour_of(post_id: int) -> int:
    return ((post_id >> LOW_BITS) + EPOCH_MS) // HOUR_MS


def _first_of(hour: int) -> int:
    """The least id of an hour."""
    return (hour * HOUR_MS - EPOCH_MS) << LOW_BITS


def _insert(ids: list[int], post_id: int) -> None:
    """Into its place; nearly always that is the end."""
    if not ids or ids[-1] < post_id:
        ids.append(post_id)
    else:
        insort(ids, post_id)


def newest_first(ids: Sequence[int], since: int, until: int) -> Iterator[int]:
    """Ids above `since` and up to `until`, the newest first."""
    low, high = bisect_left(ids, since + 1), bisect_left(ids, until + 1)
    return (ids[i] for i in range(high - 1, low - 1, -1))


def count_until(ids: Sequence[int], until: int) -> int:
    """How many ids are not above `until`."""
    return bisect_left(ids, until + 1)
