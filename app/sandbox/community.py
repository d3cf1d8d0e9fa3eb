"""A community: who is in it, what they post, and what they make of what the bot posts.

`Community` is all that the API knows of it, so another mechanism can stand behind the same API. `TasteCommunity` is
the usual one: engagement is exposure times taste, taste a set of weights on measured traits, gated by fluency. The
other one is in `boundedconfidence.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from math import exp, log, sqrt
from typing import Literal, Protocol

import numpy as np

from app.sandbox import reactions as rx
from app.sandbox.chance import Floats, key, normal, uniform
from app.sandbox.communityfile import CommunityFile
from app.sandbox.language import Fluency, step
from app.sandbox.people import People, Person
from app.sandbox.posts import LOW_BITS, Kind, Post, from_ms, snowflake
from app.sandbox.reactions import Events, Reactions
from app.sandbox.rhythm import Rhythm
from app.sandbox.texts import Texts
from app.sandbox.traits import Subject, measure, stem, words_of
from app.text import canonical, shingles

TRUTH_MINUTES = 24 * 60
WEIGHTS = {"likes": 1.0, "reposts": 2.0, "quotes": 1.0, "replies": 1.0}
MEMORY = 200  # own posts that a new one is compared with
FLOOR = 0.05  # share of reach that a copy keeps
MEMBER_LIKES = 7.0  # what an idea by a member of average reach earns
QUALITY = {"idea": 1.2, "news": 1.3, "question": 0.8, "talk": 0.5, "answer": 0.3, "empty": 0.1, "bot": 0.0}


@dataclass(frozen=True)
class Draft:
    """A text and its place: what it answers or quotes, or the topic it is on."""

    text: str
    kind: Kind = "post"
    parent: Post | None = None
    topic: str | None = None


@dataclass(frozen=True)
class Truth:
    """What a draft would earn in 24 hours on average, luck and noise taken out.

    Attributes:
        engagement: likes + 2 reposts + quotes + replies.
        score: what the text itself is worth, 1 for an ordinary draft.
        negative_share: of replies and quotes.
    """

    engagement: float
    likes: float
    reposts: float
    quotes: float
    replies: float
    negative_share: float
    score: float
    fluency: float
    novelty: float
    traits: dict[str, float]


class Community(Protocol):
    """What the API needs of a community."""

    file: CommunityFile
    people: People

    def posts_until(self, start: datetime, now: datetime) -> Iterator[Post]:
        """Members' posts not handed out before, of all hours from `start` to the one of `now`."""

    def react(self, post: Post, parent: Post | None, earlier: Sequence[Post], blocked: Mapping[int, int]) -> Reactions:
        """All that a post earns. `earlier`: the bot's posts before it; `blocked`: account to when it blocked (ms)."""

    def member_reactions(self, post: Post) -> Reactions:
        """All that a member's post earns."""

    def truth(self, draft: Draft, earlier: Sequence[str] = ()) -> Truth:
        """The true expected engagement of a draft, had the texts in `earlier` been posted before it."""

    def traits(self, draft: Draft) -> dict[str, float]:
        """What is measured in a draft, as its truth tells it."""

    def share_arrived(self, minutes: float) -> float:
        """Share of all that a post earns which has come at an age."""

    def topics(self, examples: int) -> dict[str, list[dict[str, object]]]:
        """Topics that members post on, and held-out ones, each with example posts."""


@dataclass(frozen=True)
class _Value:
    """A text, judged: how far it leans towards the taste, likes per unit of exposure, and what it stirs beside."""

    lean: float
    score: float
    fluency: float
    talk: float
    hostility: float
    traits: dict[str, float]


class TasteCommunity:
    """A community with a taste that is written down."""

    def __init__(self, file: CommunityFile, seed: int, bot_handle: str) -> None:
        self.file, self._seed, self._bot_handle = file, seed, bot_handle
        self.people = People(file, seed)
        self.texts = Texts(file)
        self._rhythm = Rhythm(file, self.people, self.texts, seed, bot_handle)
        self._stems = {name: {stem(word) for word in words} for name, words in self.texts.vocabulary.items()}
        self._mean_pull = sum(p.pull for p in self.people.members) / len(self.people.members) or 1.0

    @cached_property
    def fluency(self) -> Fluency:
        return Fluency(self.file.language, self.texts.corpus())

    def posts_until(self, start: datetime, now: datetime) -> Iterator[Post]:
        return self._rhythm.until(start, now)

    def share_arrived(self, minutes: float) -> float:
        return rx.share_arrived(minutes, self.file.growth)

    def topics(self, examples: int) -> dict[str, list[dict[str, object]]]:
        def describe(name: str) -> dict[str, object]:
            kinds = ("ideas", "news", "questions")
            texts = [
                self.texts.on_topic(name, kinds[i % 3], key(self._seed, "example", name, i)) for i in range(examples)
            ]
            return {"name": name, "about": self.texts.topics[name].about, "examples": texts}

        return {
            "training": [describe(name) for name in self.file.topics],
            "held_out": [describe(name) for name in self.file.held_out],
        }

    def truth(self, draft: Draft, earlier: Sequence[str] = ()) -> Truth:
        topic = self._topic(draft)
        value = self._judge(draft, topic)
        novelty = self._novelty(draft.text, earlier)
        exposure = self._exposure(draft, 0.0) * novelty
        sigma, arrived = self.file.audience.luck, self.share_arrived(TRUTH_MINUTES)
        everybody, writers = self._shares(topic, value.lean, None)
        means = {
            name: arrived * rx.expected(exposure * rate, writers if name in {"replies", "quotes"} else everybody, sigma)
            for name, rate in self._rates(value).items()
        }
        return Truth(
            engagement=sum(WEIGHTS[name] * mean for name, mean in means.items()),
            **means,
            negative_share=rx.angry_share(value.score, value.hostility, self.file.hostility.angry),
            score=value.score,
            fluency=value.fluency,
            novelty=novelty,
            traits=value.traits,
        )

    def traits(self, draft: Draft) -> dict[str, float]:
        return self._measure(draft, self._topic(draft))

    def react(self, post: Post, parent: Post | None, earlier: Sequence[Post], blocked: Mapping[int, int]) -> Reactions:
        draft = Draft(post.body, post.kind, parent, post.topic)
        topic = self._topic(draft)
        value = self._judge(draft, topic)
        age = (post.at - parent.at) / timedelta(minutes=1) if parent else 0.0
        exposure = self._exposure(draft, age) * self._novelty(post.body, [p.body for p in earlier])
        exposure *= self._patience(post, earlier)
        salt = key(self._seed, "bot post", post.kind, post.target, canonical(post.body))
        seen = exposure * float(rx.luck(self.file.audience.luck, np.array([normal(salt, "luck")]))[0])
        everybody, writers = self._shares(topic, value.lean, post.author)
        rates = {name: seen * rate for name, rate in self._rates(value).items()}
        gone = dict(blocked)

        def happen(name: str, rate: float, shares: Floats) -> Events:
            return rx.without(
                rx.draw(post, key(salt, name), rate, shares=shares, ids=self.people.ids, growth=self.file.growth), gone
            )

        views = seen * self.file.audience.views_per_like
        blocking = self.file.hostility.block_chance * value.hostility * views
        return Reactions(
            views=views,
            likes=happen("likes", rates["likes"], everybody),
            reposts=happen("reposts", rates["reposts"], everybody),
            blocks=happen("blocks", blocking, everybody),
            written=(
                *self._write(
                    post, "reply", happen("replies", rates["replies"], writers), value=value, topic=topic, salt=salt
                ),
                *self._write(
                    post, "quote", happen("quotes", rates["quotes"], writers), value=value, topic=topic, salt=salt
                ),
            ),
        )

    def member_reactions(self, post: Post) -> Reactions:
        author = self.people.by_id(post.author)
        pull = ((author.pull if author else 0.0) / self._mean_pull) ** 0.8
        salt = key(self._seed, "member post", post.id)
        chance = float(rx.luck(self.file.audience.luck, np.array([normal(salt, "luck")]))[0])
        rate = MEMBER_LIKES * QUALITY[post.substance] * (0.3 if post.kind == "reply" else 1.0) * pull * chance
        shares = self.people.appetite(post.topic)
        crowd = np.where(np.arange(len(shares)) < len(self.people.members), 0.0, shares)
        likes = rx.draw(post, key(salt, "likes"), rate, shares=shares, ids=self.people.ids, growth=self.file.growth)
        reposts = rx.draw(
            post, key(salt, "reposts"), 0.1 * rate, shares=crowd, ids=self.people.ids, growth=self.file.growth
        )
        seen = MEMBER_LIKES * (pull + 0.05) * chance * self.file.audience.views_per_like
        return Reactions(seen, likes, reposts)

    def _rates(self, value: _Value) -> dict[str, float]:
        """Events of each sort per unit of exposure. Talk grows slower than likes: a dull text is answered too."""
        mix, heat = self.file.mix, sqrt(value.score * value.fluency) * value.talk
        return {
            "likes": value.score,
            "reposts": value.score * mix.repost,
            "replies": heat * mix.reply,
            "quotes": heat * mix.quote,
        }

    def _measure(self, draft: Draft, topic: str | None) -> dict[str, float]:
        subject = Subject(
            draft.parent.body if draft.parent else "", self.texts.vocabulary.get(topic or "", frozenset())
        )
        return measure(draft.text, subject, self.file.language)

    def _judge(self, draft: Draft, topic: str | None) -> _Value:
        taste, traits = self.file.taste, self._measure(draft, topic)
        fluency = self.fluency.score(draft.text)
        lean = sum(weight * traits[name] for name, weight in taste.weights.items()) - taste.average
        talk = exp(sum(weight * traits[name] for name, weight in taste.talk.items()))
        return _Value(lean, fluency * self._liking(lean, topic), fluency, talk, traits["hostility"], traits)

    def _liking(self, lean: float, topic: str | None) -> float:  # noqa: ARG002 - another mechanism asks who listens
        """Likes per unit of exposure, 1 for an ordinary draft."""
        return rx.soft_cap(exp(lean), self.file.taste.ceiling)

    def _appetite(self, topic: str | None, lean: float) -> Floats:  # noqa: ARG002 - all like alike here
        """Each account's share of all reactions to a text; sums to 1."""
        return self.people.appetite(topic)

    def _topic(self, draft: Draft) -> str | None:
        if draft.topic or (draft.parent and draft.parent.topic):
            return draft.topic or (draft.parent.topic if draft.parent else None)
        return self.texts.topic_of({stem(word) for word in words_of(draft.text)}, self._stems)

    def _exposure(self, draft: Draft, parent_age_minutes: float) -> float:
        audience = self.file.audience
        if draft.kind == "post" or draft.parent is None:
            return audience.post
        author: Person | None = self.people.by_id(draft.parent.author)
        pull = (author.pull / self._mean_pull) ** audience.author_pull if author and author.pull else 0.6
        late = exp(-log(2.0) * parent_age_minutes / audience.late_half_life)
        return (audience.quote if draft.kind == "quote" else audience.reply) * pull * late

    def _novelty(self, text: str, earlier: Sequence[str]) -> float:
        fatigue = self.file.fatigue
        likeness = max((_likeness(text, other) for other in earlier[-MEMORY:]), default=0.0)
        return 1.0 - (1.0 - FLOOR) * step(likeness, fatigue.copy_from, fatigue.copy_until)

    def _patience(self, post: Post, earlier: Sequence[Post]) -> float:
        """What is left of the reach of somebody who posts too much, or at one person again and again."""
        fatigue = self.file.fatigue
        today = sum(post.at - other.at < timedelta(days=1) for other in earlier) + 1
        hours = timedelta(hours=fatigue.same_author_hours)
        same = sum(
            other.kind == "reply" and other.target_author == post.target_author and post.at - other.at < hours
            for other in earlier
        )
        nagging = float(0.5 ** max(0, same - 1)) if post.kind == "reply" else 1.0
        return float(min(1.0, fatigue.posts_per_day / today) ** 1.5) * nagging

    def _shares(self, topic: str | None, lean: float, author: int | None) -> tuple[Floats, Floats]:
        """Shares of all accounts in silent reactions, and in written ones, which only members give."""
        everybody = self._appetite(topic, lean)
        writers = np.zeros_like(everybody)
        writers[: len(self.people.members)] = everybody[: len(self.people.members)]
        if author in self.people.place:
            writers[self.people.place[author]] = 0.0
        return everybody, writers / writers.sum()

    def _write(
        self,
        post: Post,
        kind: Literal["reply", "quote"],
        events: Events,
        *,
        value: _Value,
        topic: str | None,
        salt: int,
    ) -> Iterator[Post]:
        angry = rx.angry_share(value.score, value.hostility, self.file.hostility.angry)
        stance = self.file.answers if kind == "reply" else self.file.quotes
        prefix = f"@{self._bot_handle} " if kind == "reply" else ""
        for time, user in zip(events.times, events.users, strict=True):
            writing = key(salt, kind, user, "text")
            against = uniform(writing, "stance") < angry
            templates = stance.negative if against else stance.positive
            yield Post(
                id=snowflake(from_ms(time), writing % (1 << LOW_BITS)),
                author=user,
                text=prefix + self.texts.answer(templates, writing, post.body, topic),
                kind=kind,
                target=post.id,
                target_author=post.author,
                root=post.conversation if kind == "reply" else 0,
                body_start=len(prefix),
                topic=topic,
                substance="answer",
                stance=-1 if against else 1,
            )


def _likeness(left: str, right: str) -> float:
    """Likeness of two texts, 0 to 1: the same runs of words, or nearly the same set of them."""
    (words, runs), (other_words, other_runs) = _parts(left), _parts(right)
    return max(_overlap(runs, other_runs), 2.0 * _overlap(words, other_words) - 1.0)


@lru_cache(maxsize=4096)
def _parts(text: str) -> tuple[frozenset[object], frozenset[object]]:
    return frozenset(words_of(text)), frozenset(shingles(text))


def _overlap(a: frozenset[object], b: frozenset[object]) -> float:
    return len(a & b) / len(a | b) if a and b else 0.0
