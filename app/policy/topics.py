"""What a post of its own is about: the persona's interests, and what the community talks about."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from app.text import MENTION, canonical

COMMUNITY_SHARE = 0.5  # chance that the topic comes from the community rather than from the interests
FEWEST_VOICES = 3  # members who must use a word before it is something people talk about
MOST_TOPICS = 20  # of the community, the most talked about first
MOST_TALK = 3  # posts about the topic that are shown to the model
WORD = re.compile(r"[^\W\d_]{4,}")
# Used by everybody about anything, and not in scikit-learn's list.
EMPTY_WORDS = frozenset(
    WORD.findall(
        """
        best better come days does doing dont gets going good great hope isnt just know lets like little
        long look love make maybe need nice people post posts read real really right said says somebody sure
        thank thanks thats thing things think thought time times today tomorrow tonight want wants week
        wonder work year years yesterday
        """
    )
)


@dataclass(frozen=True)
class Heard:
    """A recent post of a member: who wrote it, and what."""

    author_id: str
    handle: str | None
    text: str


@dataclass(frozen=True)
class Topic:
    """What to write about, the chance with which it was chosen, and recent posts about it, the oldest first."""

    text: str
    chance: float
    talk: list[Heard]


def choose_topic(
    interests: Sequence[str], heard: Sequence[Heard], *, avoid: Sequence[str], chooser: random.Random
) -> Topic:
    """Choose a topic by chance.

    Interests share one half of the chance, the more of it the more members talk about them; what the community talks
    about shares the other half. Topics in `avoid` (those of our last posts) are left out while others remain.

    Args:
        heard: recent posts, the oldest first.
    """
    voices = _voices(heard)
    of_interests = {interest: 1.0 + len(_speakers(interest, voices)) for interest in interests}
    of_community = _talked_about(voices, known=interests)
    chances = _shared(of_interests, 1 - COMMUNITY_SHARE if of_community else 1.0)
    chances |= _shared(of_community, COMMUNITY_SHARE)
    fresh = {topic: chance for topic, chance in chances.items() if topic not in avoid} or chances
    chances = _shared(fresh, 1.0)
    (text,) = chooser.choices(list(chances), weights=list(chances.values()))
    wanted = topic_words(text)
    talk = [post for post in heard if wanted & topic_words(post.text)]
    return Topic(text, chances[text], talk[-MOST_TALK:])


def topic_words(text: str) -> set[str]:
    """The words of a text that could be a topic."""
    plain = canonical(MENTION.sub(" ", text)).replace("'", "").replace("’", "")
    return {word for word in WORD.findall(plain) if word not in ENGLISH_STOP_WORDS | EMPTY_WORDS}


def _voices(heard: Sequence[Heard]) -> dict[str, set[str]]:
    """Who used each word: one person who says a word ten times is one voice."""
    voices: defaultdict[str, set[str]] = defaultdict(set)
    for post in heard:
        for word in topic_words(post.text):
            voices[word].add(post.author_id)
    return voices


def _speakers(topic: str, voices: dict[str, set[str]]) -> set[str]:
    return set().union(*(voices.get(word, set()) for word in topic_words(topic)))


def _talked_about(voices: dict[str, set[str]], known: Sequence[str]) -> dict[str, float]:
    already = set().union(*(topic_words(interest) for interest in known))
    counts = Counter({word: len(who) for word, who in voices.items() if word not in already})
    return {word: float(count) for word, count in counts.most_common(MOST_TOPICS) if count >= FEWEST_VOICES}


def _shared(weights: dict[str, float], whole: float) -> dict[str, float]:
    """Weights as chances that add up to `whole`."""
    total = sum(weights.values())
    return {key: whole * weight / total for key, weight in weights.items()}
