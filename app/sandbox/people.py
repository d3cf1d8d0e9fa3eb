"""Who is in a community: members who write, a crowd that only reads, and who follows whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property

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

    Who follows whom is drawn when it is asked for: of all pairs at once it would be most of the start.
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
        self._topics = {topic: i for i, topic in enumerate(file.topics)}
        self._interests: Floats = np.zeros((len(self.members), len(self._topics)))
        for i, person in enumerate(self.members):
            for topic, weight in person.interests.items():
                self._interests[i, self._topics[topic]] = weight
        self._pulls: Floats = np.array([person.pull for person in self.members])
        self._followers: dict[int, list[int]] = {}
        self._following: dict[int, list[int]] = {}
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
        if place is None:
            return []
        if user_id not in self._followers:
            self._followers[user_id] = self.ids[self._column(place)].tolist()
        return self._followers[user_id]

    def following(self, user_id: int) -> list[int]:
        """Ids of the members that an account follows."""
        place = self.place.get(user_id)
        if place is None and not 0 <= user_id - CROWD_IDS < self._crowd_size:
            return []
        if user_id not in self._following:
            chosen = self._of_crowd(user_id) if place is None else self._befriended(place)
            self._following[user_id] = [self.members[i].id for i in np.flatnonzero(chosen)]
        return self._following[user_id]

    @cached_property
    def follows(self) -> npt.NDArray[np.bool_]:
        """Who follows which member, bool [accounts, members]."""
        return np.stack([self._column(place) for place in range(len(self.members))], axis=1)

    def appetite(self, topic: str | None) -> Floats:
        """Each account's share of all engagement with a post on a topic; sums to 1."""
        if topic not in self._appetites:
            members = np.array([0.15 + person.interests.get(topic or "", 0.0) for person in self.members])
            shares = np.full(len(self), self._crowd_appetite / max(1, self._crowd_size))
            shares[: len(members)] = members / members.sum() * (1.0 - self._crowd_appetite)
            self._appetites[topic] = shares
        return self._appetites[topic]

    def interest_in(self, topics: Sequence[str]) -> Floats:
        """How much topics matter to members, [members, topics]."""
        return self._interests[:, [self._topics[topic] for topic in topics]]

    def _column(self, place: int) -> npt.NDArray[np.bool_]:
        """Who follows a member, bool [accounts]: the crowd by its pull, members by that and by common interests."""
        person = self.members[place]
        followed: npt.NDArray[np.bool_] = uniforms(key(self._seed, "follow", person.id), self.ids) < person.pull
        drawn = np.array([self._friendship(other.id, person.id) for other in self.members])
        followed[: len(self.members)] = drawn < np.minimum(0.95, person.pull + 0.8 * self._alike(place))
        followed[place] = False
        return followed

    def _befriended(self, place: int) -> npt.NDArray[np.bool_]:
        """Whom a member follows, bool [members]."""
        drawn = np.array([self._friendship(self.members[place].id, other.id) for other in self.members])
        chosen: npt.NDArray[np.bool_] = drawn < np.minimum(0.95, self._pulls + 0.8 * self._alike(place))
        chosen[place] = False
        return chosen

    def _of_crowd(self, user_id: int) -> npt.NDArray[np.bool_]:
        """Whom an account of the crowd follows, bool [members]."""
        one = np.array([user_id], dtype=np.uint64)
        drawn = [uniforms(key(self._seed, "follow", person.id), one)[0] for person in self.members]
        return np.array(drawn) < self._pulls

    def _friendship(self, follower: int, followed: int) -> float:
        return uniform(self._seed, "friend", follower, followed)

    def _alike(self, place: int) -> Floats:
        """How much each member has in common with one. Topics are added up one by one, in the file's order, so that
        it is the same number from both sides."""
        alike = np.zeros(len(self.members))
        for topic in range(len(self._topics)):
            alike += np.minimum(self._interests[place, topic], self._interests[:, topic])
        return alike


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
