"""Texts from templates: what members write, made when it is needed and always the same again.

A template's `{name}` is filled from the topic's slots or the common ones, `{3..40}` with a whole number. One
template filled for one key gives one text; a story's key makes everybody who passes it on name the same facts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from app.sandbox.chance import key, pick
from app.sandbox.communityfile import CommunityFile, TopicEntry
from app.sandbox.lexicon import lexicon
from app.sandbox.traits import salient

HOLE = re.compile(r"\{(\w+|\d+\.\.\d+)\}")
SENTENCE = re.compile(r"(?:^|(?<=[.?!] ))[^\W\d_]")
CORPUS_FILLINGS = 5
Slots = Mapping[str, Sequence[str]]


def fill(template: str, facts: int, *slots: Slots, **given: str) -> str:
    """Fill the holes of a template; the same `facts` always fill them alike.

    Raises:
        KeyError: the template has a hole that no slot fills.
    """
    numbers = 0

    def value(hole: re.Match[str]) -> str:
        nonlocal numbers
        name = hole.group(1)
        if ".." in name:
            low, high = map(int, name.split(".."))
            numbers += 1
            return str(low + key(facts, "number", numbers) % (high - low + 1))
        if name in given:
            return given[name]
        for options in slots:
            if name in options:
                return pick(options[name], facts, name)
        raise KeyError(f"template {template!r} has a hole {{{name}}} that no slot fills")

    return SENTENCE.sub(lambda start: start.group().upper(), HOLE.sub(value, template))


class Texts:
    """The texts of one community."""

    def __init__(self, file: CommunityFile) -> None:
        self.file = file
        self.topics: dict[str, TopicEntry] = {**file.topics, **file.held_out}
        self._spelling = {name: {word.lower(): word for word in topic.words} for name, topic in self.topics.items()}
        self.vocabulary = {name: frozenset(spelling) for name, spelling in self._spelling.items()}

    def on_topic(self, topic: str, kind: str, writing: int, facts: int | None = None) -> str:
        """A text of kind news, ideas or questions. `facts` fixes what a story says; `writing` is the post's own."""
        entry, common = self.topics[topic], self.file.common
        shared = writing if facts is None else facts
        body = fill(pick(getattr(entry, kind), shared, "template"), shared, entry.slots, common)
        if kind == "questions":
            return body
        opener = pick(common.get("opener", [""]), writing, "opener")
        closer = pick(common.get("closer", [""]), writing, "closer")
        return f"{opener}{body}{closer}"

    def talk(self, writing: int, interest: str) -> str:
        return fill(
            pick(self.file.small_talk, writing, "talk"), writing, self.file.common, about=self.topics[interest].about
        )

    def empty(self, writing: int) -> str:
        text = fill(pick(self.file.empty, writing, "empty"), writing, self.file.common)
        return text if key(writing, "case") % 3 == 0 else text.lower()

    def answer(self, templates: Sequence[str], writing: int, to: str, topic: str | None) -> str:
        """What somebody writes under another's text, about the word that text is most about."""
        spelling = self._spelling.get(topic or "", {})
        word = salient(to, self.file.language, spelling)
        if word is None and spelling:
            word = spelling[pick(sorted(spelling), writing, "word")]
        given = word or lexicon(self.file.language).this
        return fill(pick(templates, writing, "answer"), writing, self.file.common, word=given)

    def topic_of(self, text_stems: set[str], stems_by_topic: Mapping[str, set[str]]) -> str | None:
        """The topic whose vocabulary a text shares most of, if it shares any."""
        shared = {name: len(text_stems & stems) for name, stems in stems_by_topic.items()}
        best = max(shared, key=lambda name: (shared[name], name))
        return best if shared[best] else None

    def corpus(self) -> Iterator[str]:
        """Every template filled a few times: what this community's language looks like."""
        for name, entry in self.file.topics.items():
            for kind in ("news", "ideas", "questions"):
                for template in getattr(entry, kind):
                    for i in range(CORPUS_FILLINGS):
                        yield fill(template, key("corpus", name, i), entry.slots, self.file.common)
        everyday = [*self.file.small_talk, *self.file.replies_between_members]
        for stance in (self.file.answers, self.file.quotes):
            everyday += [*stance.positive, *stance.negative]
        for template in everyday:
            for topic in self.file.topics.values():
                filling = key("corpus", template, topic.about)
                word = pick(topic.words, filling)
                yield fill(template, filling, self.file.common, about=topic.about, word=word)
