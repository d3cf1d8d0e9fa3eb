"""When members post, and what on: a pure function of the seed and the hour.

Every hour of the world is written as a whole, from the hours before it, so it does not matter when, how often
or in what order anybody asks. Stories break, rise for an hour and fade; while one is fresh, more is written on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.sandbox.chance import key, pick, poisson, uniform, weighted
from app.sandbox.communityfile import CommunityFile
from app.sandbox.people import People, Person
from app.sandbox.posts import LOW_BITS, Post, Substance, snowflake
from app.sandbox.texts import Texts

HOUR = timedelta(hours=1)
THREAD_HOURS = 6  # members answer and repost what is no older than this
ORDINARY: dict[Substance, float] = {"idea": 0.4, "news": 0.2, "talk": 0.25, "empty": 0.15}
TRIES = 6


@dataclass(frozen=True)
class Story:
    """Something that happened: everybody who writes on it names the same facts."""

    topic: str
    facts: int
    broke: datetime

    def attention(self, at: datetime, half_life: timedelta) -> float:
        """0 before it broke, up to 1 an hour after, then fading by half every half-life."""
        age = (at - self.broke) / HOUR
        return 0.0 if age <= 0 else min(1.0, age) * 0.5 ** (max(0.0, age - 1.0) * HOUR / half_life)


class Rhythm:
    """Writes the members' posts, hour by hour, from the hour in which the world began."""

    def __init__(self, file: CommunityFile, people: People, texts: Texts, seed: int, bot_handle: str) -> None:
        self._file, self._people, self._texts = file, people, texts
        self._seed, self._bot = seed, bot_handle
        self._hour: datetime | None = None
        self._recent: list[list[Post]] = []

    def until(self, start: datetime, now: datetime) -> Iterator[Post]:
        """Posts of all hours from `start` to the one that `now` is in, which were not handed out before.

        Those of the running hour may lie ahead of `now`.
        """
        hour = self._hour or start.replace(minute=0, second=0, microsecond=0)
        while hour <= now:
            posts = sorted(self._write(hour), key=lambda post: post.id)
            yield from posts
            self._recent = [*self._recent[-THREAD_HOURS + 1 :], posts]
            hour += HOUR
        self._hour = hour

    def stories(self, at: datetime) -> list[tuple[Story, float]]:
        """Stories with any attention left, and how much of it."""
        rhythm = self._file.rhythm
        half_life = timedelta(hours=rhythm.news_half_life_hours)
        span = timedelta(hours=rhythm.news_every_hours)
        current = int(at.timestamp() // span.total_seconds())
        found = []
        for topic in self._file.topics:
            for number in range(current - 2, current + 1):
                moment = (number + uniform(self._seed, "story", topic, number)) * span.total_seconds()
                story = Story(topic, key(self._seed, "facts", topic, number), datetime.fromtimestamp(moment, at.tzinfo))
                attention = story.attention(at, half_life)
                if attention > 0.02:
                    found.append((story, attention))
        return found

    def _write(self, hour: datetime) -> Iterator[Post]:
        stories = self.stories(hour)
        earlier = [post for posts in self._recent for post in posts]
        stamp = int(hour.timestamp())
        for person in self._people.members:
            mean = person.posts_per_day * person.awake[hour.hour]
            for number in range(poisson(mean, self._seed, "posts", person.id, stamp)):
                writing = key(self._seed, "writing", person.id, stamp, number)
                yield self._compose(person, hour, writing, stories, earlier)

    def _compose(
        self, person: Person, hour: datetime, writing: int, stories: list[tuple[Story, float]], earlier: list[Post]
    ) -> Post:
        at = hour + HOUR * uniform(writing, "minute")
        post_id = snowflake(at, key(writing, "low") % (1 << LOW_BITS))
        rhythm, draw = self._file.rhythm, uniform(writing, "form")
        if draw < rhythm.mention_share:
            return self._ask(person, post_id, writing)
        if draw < rhythm.mention_share + rhythm.reply_share + rhythm.repost_share:
            parent = self._worth_answering(person, writing, earlier)
            if parent is not None and draw < rhythm.mention_share + rhythm.reply_share:
                return self._reply(person, post_id, writing, parent)
            if parent is not None:
                return self._repost(person, post_id, parent)
        return self._post(person, post_id, writing, stories)

    def _post(self, person: Person, post_id: int, writing: int, stories: list[tuple[Story, float]]) -> Post:
        own = [(story, height * person.interests.get(story.topic, 0.0)) for story, height in stories]
        pull = self._file.rhythm.news_pull * max((height for _, height in own), default=0.0)
        weights = [*ORDINARY.values(), pull]
        substance = weighted([*ORDINARY, "story"], weights, writing, "substance")
        if substance == "story":
            story = weighted([s for s, _ in own], [height for _, height in own], writing, "which")
            text = self._texts.on_topic(story.topic, "news", writing, story.facts)
            return Post(post_id, person.id, text, topic=story.topic, substance="news")
        topic = self._interest(person, writing)
        if substance == "news":
            return Post(post_id, person.id, self._texts.on_topic(topic, "news", writing), topic=topic, substance="news")
        if substance == "idea":
            return Post(
                post_id, person.id, self._texts.on_topic(topic, "ideas", writing), topic=topic, substance="idea"
            )
        if substance == "talk":
            return Post(post_id, person.id, self._texts.talk(writing, topic), substance="talk")
        return Post(post_id, person.id, self._texts.empty(writing), substance="empty")

    def _ask(self, person: Person, post_id: int, writing: int) -> Post:
        topic = self._interest(person, writing)
        text = f"@{self._bot} {self._texts.on_topic(topic, 'questions', writing)}"
        return Post(post_id, person.id, text, topic=topic, substance="question")

    def _reply(self, person: Person, post_id: int, writing: int, parent: Post) -> Post:
        author = self._people.by_id(parent.author)
        prefix = f"@{author.handle} " if author else ""
        body = self._texts.answer(self._file.replies_between_members, writing, parent.body, parent.topic)
        return Post(
            post_id,
            person.id,
            prefix + body,
            kind="reply",
            target=parent.id,
            target_author=parent.author,
            root=parent.conversation,
            body_start=len(prefix),
            topic=parent.topic,
            substance="idea" if parent.topic else "talk",
        )

    def _repost(self, person: Person, post_id: int, parent: Post) -> Post:
        author = self._people.by_id(parent.author)
        text = f"RT @{author.handle if author else ''}: {parent.text}"
        return Post(
            post_id,
            person.id,
            text if len(text) <= 140 else text[:139] + "…",
            kind="repost",
            target=parent.id,
            target_author=parent.author,
            topic=parent.topic,
            substance=parent.substance,
        )

    def _worth_answering(self, person: Person, writing: int, earlier: list[Post]) -> Post | None:
        """Something recent by another on a topic of theirs, if a few looks find it."""
        for attempt in range(TRIES if earlier else 0):
            post = pick(earlier, writing, "parent", attempt)
            if post.author != person.id and post.kind != "repost" and person.interests.get(post.topic or "", 0) > 0.2:
                return post
        return None

    def _interest(self, person: Person, writing: int) -> str:
        return weighted(list(person.interests), list(person.interests.values()), writing, "interest")
