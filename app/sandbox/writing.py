"""What members' posts say, and to whom, made up when somebody looks.

A start that worded a hundred thousand posts would take seconds, and of most of them nobody ever reads more than the id.
When a post is made is `rhythm.py`'s; all else follows from its key and from posts of the hours before, and is the same
whenever and in whatever order it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple, cast

import numpy as np

from app.sandbox.chance import SEPARATOR, SPAN, Floats, hashed, weighted, weighted_at
from app.sandbox.communityfile import CommunityFile
from app.sandbox.late import Late
from app.sandbox.people import People
from app.sandbox.posts import Kind, Post, Substance
from app.sandbox.stories import Story, stories
from app.sandbox.texts import Texts
from app.text import mentions

# What members post when they answer nobody, and how often. A story's share is its pull.
SUBSTANCES = ("idea", "news", "talk", "empty", "story")
SHARES = (0.4, 0.2, 0.25, 0.15)
LONGEST_REPOST = 140
THREAD_HOURS = 6  # members answer and repost what is no older than this
TRIES = 6
KEPT_TEXTS = 50_000
DEEPEST = 40  # posts whose places hang on each other, before the hours are gone through in order instead


class Thread(NamedTuple):
    """Where a post stands. The fields of Post, the answered or reposted post, and whether it asks the bot."""

    kind: Kind = "post"
    target: int | None = None
    target_author: int | None = None
    root: int = 0
    body_start: int = 0
    parent: MemberPost | None = None
    asks: bool = False


ALONE = Thread()


class Matter(NamedTuple):
    """What a post is about."""

    topic: str | None
    substance: Substance
    story: Story | None = None


class Hour:
    """One hour of the world: its posts in the order of ids, and the hours before."""

    def __init__(self, pen: Pen, begin: datetime, previous: Hour | None) -> None:
        self._pen, self.begin, self.previous = pen, begin, previous
        self.posts: list[MemberPost] = []

    @Late
    def earlier(self) -> list[MemberPost]:
        """What may be answered in this hour, the oldest first."""
        hours, hour = list[list[MemberPost]](), self.previous
        while hour is not None and len(hours) < THREAD_HOURS:
            hours.append(hour.posts)
            hour = hour.previous
        return [post for posts in reversed(hours) for post in posts]

    @Late
    def news(self) -> tuple[list[Story], Floats]:
        """Stories in the news, and how much each draws each member, [members, stories]."""
        found = stories(self._pen.file, self._pen.seed, self.begin)
        own = self._pen.people.interest_in([story.topic for story, _ in found])
        return [story for story, _ in found], own * np.array([height for _, height in found])


class _TooDeepError(Exception):
    """Places hang on each other further than the stack should go."""


class Pen:
    """Makes up the posts of one community."""

    def __init__(self, file: CommunityFile, people: People, texts: Texts, seed: int, bot_handle: str) -> None:
        self.file, self.people, self.seed = file, people, seed
        self._texts, self._bot, self._depth = texts, bot_handle, 0
        # As X shows it. Made again when it is forgotten: of a long history, texts would take most of the memory.
        self.text = lru_cache(maxsize=KEPT_TEXTS)(self._text)
        self._interests = {p.id: (list(p.interests), list(p.interests.values())) for p in people.members}
        self._handles = {person.id: person.handle for person in people.members}
        # Where no template names anybody, whom a post mentions follows from whom it asks, answers or reposts.
        self.names_people = any("@" in text for text in _strings(file.model_dump(exclude={"members"})))
        self.bot_mentioned = mentions(f"@{bot_handle} ")
        self.mentioned = {person_id: mentions(f"@{handle} ") for person_id, handle in self._handles.items()}

    def thread(self, post: MemberPost) -> Thread:
        """Where a post stands. It may hang on where others stand, and so on, hours back."""
        if self._depth == DEEPEST:
            raise _TooDeepError
        self._depth += 1
        try:
            return self._place(post)
        except _TooDeepError:
            if self._depth > 1:
                raise
            _go_through(post.hour)
            return self._place(post)
        finally:
            self._depth -= 1

    def _place(self, post: MemberPost) -> Thread:
        rhythm, draw = self.file.rhythm, hashed(f"{post.writing}{SEPARATOR}form") / SPAN
        if draw < rhythm.mention_share:
            return Thread(asks=True)
        parent = None
        if draw < rhythm.mention_share + rhythm.reply_share + rhythm.repost_share:
            parent = self._worth_answering(post)
        if parent is None:
            return ALONE
        if draw < rhythm.mention_share + rhythm.reply_share:
            begins = len(f"@{self._handles[parent.author]} ")
            return Thread("reply", parent.id, parent.author, parent.conversation, begins, parent)
        return Thread("repost", parent.id, parent.author, parent=parent)

    def _worth_answering(self, post: MemberPost) -> MemberPost | None:
        """Something recent by another on a topic of theirs, if a few looks find it."""
        earlier, interests = post.hour.earlier, self.people.members[post.place].interests
        looks = f"{post.writing}{SEPARATOR}parent{SEPARATOR}"
        for attempt in range(TRIES if earlier else 0):
            found = earlier[hashed(f"{looks}{attempt}") % len(earlier)]
            if found.author != post.author and found.kind != "repost" and interests.get(found.topic or "", 0) > 0.2:
                return found
        return None

    def matter(self, post: MemberPost) -> Matter:
        """Its topic, its substance, and the story that it is on."""
        parent = post.thread.parent
        if post.thread.asks:
            return Matter(self._interest(post), "question")
        if parent is not None:
            answer: Substance = "idea" if parent.topic else "talk"
            return Matter(parent.topic, parent.substance if post.kind == "repost" else answer)
        told, heights = post.hour.news
        own: list[float] = heights[post.place].tolist()
        pull = self.file.rhythm.news_pull * max(own, default=0.0)
        drawn = weighted_at(hashed(f"{post.writing}{SEPARATOR}substance") / SPAN, SUBSTANCES, (*SHARES, pull))
        if drawn == "story":
            story = weighted(told, own, post.writing, "which")
            return Matter(story.topic, "news", story)
        return Matter(self._interest(post) if drawn in {"news", "idea"} else None, cast(Substance, drawn))

    def _text(self, post: MemberPost) -> str:
        texts, writing, parent = self._texts, post.writing, post.thread.parent
        topic, substance, story = post.matter
        if post.thread.asks:
            return f"@{self._bot} {texts.on_topic(str(topic), 'questions', writing)}"
        if parent is not None and post.kind == "repost":
            text = f"RT @{self._handles[parent.author]}: {parent.text}"
            return text if len(text) <= LONGEST_REPOST else text[: LONGEST_REPOST - 1] + "…"
        if parent is not None:
            said = texts.answer(self.file.replies_between_members, writing, parent.body, parent.topic)
            return f"@{self._handles[parent.author]} {said}"
        if substance == "talk":
            return texts.talk(writing, self._interest(post))
        if substance == "empty":
            return texts.empty(writing)
        kind = "news" if substance == "news" else "ideas"
        return texts.on_topic(str(topic), kind, writing, story.facts if story else None)

    def _interest(self, post: MemberPost) -> str:
        return weighted_at(hashed(f"{post.writing}{SEPARATOR}interest") / SPAN, *self._interests[post.author])


class MemberPost(Post):
    """A member's post. To begin with it has an id, an author and a key; the rest is made when it is read.

    What can be had again at once is not kept.

    Attributes:
        place: of its author, among the members.
        writing: the key that everything in it is drawn by.
    """

    pen: Pen
    hour: Hour
    place: int
    writing: int

    def __init__(self, known: dict[str, Any]) -> None:
        # Post's own initialiser wants the text, and Post is frozen.
        self.__dict__.update(known)

    @Late
    def thread(self) -> Thread:
        return self.pen.thread(self)

    @property
    def kind(self) -> Kind:
        return self.thread.kind

    @property
    def target(self) -> int | None:
        return self.thread.target

    @property
    def target_author(self) -> int | None:
        return self.thread.target_author

    @property
    def root(self) -> int:
        return self.thread.root

    @property
    def body_start(self) -> int:
        return self.thread.body_start

    @Late
    def matter(self) -> Matter:
        return self.pen.matter(self)

    @property
    def topic(self) -> str | None:
        return self.matter.topic

    @property
    def substance(self) -> Substance:
        return self.matter.substance

    @property
    def text(self) -> str:
        return self.pen.text(self)

    def __hash__(self) -> int:
        """By id alone: Post's own takes every field, which would make up all of them."""
        return hash(self.id)

    @property
    def mentioned(self) -> list[str]:
        if self.pen.names_people:
            return mentions(self.text)
        parent = self.thread.parent
        if parent is None:
            return self.pen.bot_mentioned if self.thread.asks else []
        named = self.pen.mentioned[parent.author]
        return [*named, *parent.mentioned] if self.kind == "repost" else named


def _go_through(hour: Hour) -> None:
    """Place the posts of all hours before, the oldest first: none then hangs on one that is not placed."""
    hours = list[Hour]()
    while hour.previous is not None:
        hour = hour.previous
        hours.append(hour)
    for earlier in reversed(hours):
        for post in earlier.posts:
            _ = post.matter


def _strings(value: Any) -> Iterator[str]:
    """Every text in a model's dump."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _strings(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _strings(part)
