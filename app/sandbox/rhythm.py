"""When members post: a pure function of the seed and the hour.

Every hour of the world is made as a whole, after the hours before it, so it does not matter when, how often or in what
order anybody asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from app.sandbox.chance import SEPARATOR, SPAN, hashed, poisson_at
from app.sandbox.communityfile import CommunityFile
from app.sandbox.people import People
from app.sandbox.posts import LOW_BITS, Post, snowflake
from app.sandbox.stories import HOUR
from app.sandbox.texts import Texts
from app.sandbox.writing import Hour, MemberPost, Pen


class Rhythm:
    """Makes the members' posts, hour by hour, from the hour in which the world began."""

    def __init__(self, file: CommunityFile, people: People, texts: Texts, seed: int, bot_handle: str) -> None:
        self._people, self._seed = people, seed
        self._pen = Pen(file, people, texts, seed, bot_handle)
        self._next: datetime | None = None
        self._last: Hour | None = None

    def until(self, start: datetime, now: datetime) -> Iterator[Post]:
        """Posts of all hours from `start` to the one that `now` is in, which were not handed out before.

        Those of the running hour may lie ahead of `now`.
        """
        begin = self._next or start.replace(minute=0, second=0, microsecond=0)
        while begin <= now:
            hour = Hour(self._pen, begin, self._last)
            hour.posts = sorted(self._write(hour), key=lambda post: post.id)
            yield from hour.posts
            self._last, begin = hour, begin + HOUR
        self._next = begin

    def _write(self, hour: Hour) -> Iterator[MemberPost]:
        pen, begin, of_day = self._pen, hour.begin, hour.begin.hour
        stamp = int(begin.timestamp())
        posting, writing = (SEPARATOR.join((str(self._seed), what, "")) for what in ("posts", "writing"))
        for place, person in enumerate(self._people.members):
            mine = f"{person.id}{SEPARATOR}{stamp}"
            mean = person.posts_per_day * person.awake[of_day]
            for number in range(poisson_at(hashed(posting + mine) / SPAN, mean)):
                drawn = hashed(f"{writing}{mine}{SEPARATOR}{number}")
                at = begin + HOUR * (hashed(f"{drawn}{SEPARATOR}minute") / SPAN)
                post_id = snowflake(at, hashed(f"{drawn}{SEPARATOR}low") % (1 << LOW_BITS))
                known = {"id": post_id, "author": person.id, "place": place, "writing": drawn, "hour": hour, "pen": pen}
                yield MemberPost(known)
