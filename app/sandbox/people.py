"""Who is in a community: members who write, a crowd that only reads, and who follows whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from app.sandbox.chance import Floats, Ids, key, uniform, uniforms
from app.sandbox.communityfile import CommunityFile, MemberEntry

MEMBER_IDS = 2_000_000_000
CROWD_IDS = 5_000_000_000
FIRST = ("quiet", "small", "north", "green", "old", "slow", "lucky", "paper", "river", "winter", "amber", "night")
SECOND = (
    "fox",
    "kettle",
    "harbor",
    "lantern",
    "maple",
    "pigeon",
    "button",
    "cloud",
    "ladder",
    "pebble",
    "comet",
    "thistle",
)


@dataclass(frozen=True)
class Person:
    """An account.

    Attributes:
        pull: share of the crowd that follows it; for the crowd itself 0.
        interests: topic to how much it matters to them, 0 to 1.
        awake: chance of posting in each hour of a UTC day, summing to 1.
    """

    id: int
    handle: str
    name: str
    bio: str = ""
    location: str = ""
    joined: datetime = datetime(2015, 1, 1, tzinfo=UTC)
    pull: float = 0.0
    interests: dict[str, float] = field(default_factory=dict)
    posts_per_day: float = 0.0
    awake: tuple[float, ...] = ()


class People:
    """Members first, then the crowd, in one fixed order; arrays over them have one entry each.

    Attributes:
        follows: who follows which member, bool [accounts, members].
    """

    def __init__(self, file: CommunityFile, seed: int) -> None:
        self.members = [_member(entry, seed) for entry in file.members]
        self._crowd_size = file.crowd.size
        self._seed = seed
        self._by_handle = {person.handle.lower(): person for person in self.members}
        self._by_id = {person.id: person for person in self.members}
        self.place = {person.id: i for i, person in enumerate(self.members)}
        self.ids: Ids = np.array(
            [p.id for p in self.members] + [CROWD_IDS + i for i in range(file.crowd.size)], dtype=np.uint64
        )
        self.follows = self._follow_graph()
        self._appetites: dict[str | None, Floats] = {}
        self._crowd_appetite = file.crowd.appetite if file.crowd.size else 0.0

    def __len__(self) -> int:
        return len(self.ids)

    def by_id(self, user_id: int) -> Person | None:
        return self._by_id.get(user_id) or self._crowd_person(user_id - CROWD_IDS)

    def by_handle(self, handle: str) -> Person | None:
        found = self._by_handle.get(handle.lower())
        if found or not handle[-4:].isdigit():
            return found
        person = self._crowd_person(int(handle[-4:]))
        return person if person and person.handle == handle.lower() else None

    def _crowd_person(self, number: int) -> Person | None:
        if not 0 <= number < self._crowd_size:
            return None
        first, second = FIRST[key("first", number) % len(FIRST)], SECOND[key("second", number) % len(SECOND)]
        handle = f"{first[:5]}{second[:6]}{number:04d}"
        joined = datetime(2012, 1, 1, tzinfo=UTC) + timedelta(days=key("joined", number) % 4500)
        return Person(CROWD_IDS + number, handle, f"{first} {second}", joined=joined)

    def followers(self, user_id: int) -> list[int]:
        """Ids of the accounts that follow a member, in a fixed order."""
        place = self.place.get(user_id)
        return [] if place is None else [int(i) for i in self.ids[self.follows[:, place]]]

    def following(self, user_id: int) -> list[int]:
        """Ids of the members that an account follows."""
        row = self.place.get(user_id)
        if row is None:
            if not 0 <= user_id - CROWD_IDS < self._crowd_size:
                return []
            row = len(self.members) + user_id - CROWD_IDS
        return [self.members[i].id for i in np.flatnonzero(self.follows[row])]

    def appetite(self, topic: str | None) -> Floats:
        """Each account's share of all engagement with a post on a topic; sums to 1."""
        if topic not in self._appetites:
            members = np.array([0.15 + person.interests.get(topic or "", 0.0) for person in self.members])
            shares = np.full(len(self), self._crowd_appetite / max(1, self._crowd_size))
            shares[: len(members)] = members / members.sum() * (1.0 - self._crowd_appetite)
            self._appetites[topic] = shares
        return self._appetites[topic]

    def _follow_graph(self) -> npt.NDArray[np.bool_]:
        columns = [uniforms(key(self._seed, "follow", p.id), self.ids) < p.pull for p in self.members]
        graph = np.stack(columns, axis=1)
        for i, a in enumerate(self.members):
            for j, b in enumerate(self.members):
                alike = sum(min(weight, b.interests.get(topic, 0.0)) for topic, weight in a.interests.items())
                graph[i, j] = i != j and uniform(self._seed, "friend", a.id, b.id) < min(0.95, b.pull + 0.8 * alike)
        return graph


def _member(entry: MemberEntry, seed: int) -> Person:
    return Person(
        id=MEMBER_IDS + key("member", entry.handle.lower()) % 1_000_000_000,
        handle=entry.handle,
        name=entry.name,
        bio=entry.bio,
        location=entry.location,
        joined=datetime(2011, 1, 1, tzinfo=UTC) + timedelta(days=key(seed, "joined", entry.handle) % 4000),
        pull=entry.followers,
        interests=dict(entry.interests),
        posts_per_day=entry.posts_per_day,
        awake=_awake(entry.awake),
    )


def _awake(span: Sequence[int]) -> tuple[float, ...]:
    start, end = span
    length = (end - start) % 24 or 24
    raw = [1.0 if (hour - start) % 24 < length else 0.04 for hour in range(24)]
    return tuple(value / sum(raw) for value in raw)
