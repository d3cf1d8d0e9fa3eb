"""Posts as conversations to train on: what was asked, in the bot's own prompts, and what was said.

The persona is the system message. A reply has the post that it answers as the user's; a post of its own is asked for by
one of its words. Strangers' words become tokens apart from the chat template, as in every prompt (`PromptBuilder`).
"""

from __future__ import annotations

import hashlib
import math
import random
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from app.config import PersonaConfig
from app.data.records import Record
from app.policy.prompts import PromptBuilder, PromptError, Said, Target
from app.policy.topics import topic_words
from app.text import URL, without_addressees

FEWEST_WORDS = 3
SAMPLED_TIMES = 100_000  # of which the moment that parts old from new is a quantile
WHITE_SPACE = re.compile(r"\s+")

Records = Callable[[], Iterable[Record]]  # the data set from its beginning, as often as it is called


@dataclass(frozen=True)
class Example:
    """One conversation as tokens. `answer_ids` end with the end token; only they are learnt."""

    prompt_ids: list[int]
    answer_ids: list[int]
    answer: str


class Conversations:
    """Makes examples of records, with one tokenizer and one persona.

    Args:
        max_tokens: longest example; a longer prompt loses the end of the post that is answered.
    """

    def __init__(self, tokenizer: Any, persona: PersonaConfig, max_tokens: int) -> None:
        self._builder = PromptBuilder(tokenizer, max_tokens // 2, examples=False)
        self._persona = persona
        self._max_tokens = max_tokens

    def example(self, record: Record) -> Example | None:
        """The example of a record; None where there is nothing to learn: too few words, a parent that is missing.

        Raises:
            PromptError: the persona alone is too long.
        """
        answer = said(record.text)
        if len(answer.split()) < FEWEST_WORDS or (record.in_reply_to_post_id and not record.parent_text):
            return None
        if record.parent_text:
            target = Target(Said(record.parent_handle, without_addressees(record.parent_text)))
            prompt = self._builder.reply(self._persona, target)
        else:
            topic = topic_of(record)
            if topic is None:
                return None
            prompt = self._builder.own_post(self._persona, topic)
        answer_ids = self._builder.answer(answer)
        if len(prompt.token_ids) + len(answer_ids) > self._max_tokens:
            return None
        return Example(prompt.token_ids, answer_ids, answer)

    def examples(self, records: Iterable[Record]) -> Iterator[Example]:
        """The examples of records, one by one; a record that no prompt can be made of is left out."""
        for record in records:
            try:
                example = self.example(record)
            except PromptError:
                if not record.parent_text:
                    raise
                continue  # the parent held a special token of this tokenizer's that survived; nothing is made of it
            if example is not None:
                yield example


def said(text: str) -> str:
    """What somebody wrote, as one line, without the handles that X puts in front and without links."""
    return WHITE_SPACE.sub(" ", URL.sub(" ", without_addressees(text))).strip()


def topic_of(record: Record) -> str | None:
    """A word of a post that it could have been asked for with: always the same one, and any of them alike often."""
    words = sorted(topic_words(said(record.text)))
    return words[_number(record.post_id) % len(words)] if words else None


@dataclass(frozen=True)
class Split:
    """Which records are held out: those of some authors, and those newer than a moment.

    Attributes:
        authors: held out whole; empty where the data set knows too few of them.
        newer_than: ISO time after which posts are held out; None where the data set knows no times.
        records: how many are trained on.
    """

    authors: frozenset[str] = frozenset()
    newer_than: str | None = None
    records: int = field(default=0, compare=False)

    def held_out_as(self, record: Record) -> str | None:
        """`author` or `time`, None for a record to train on."""
        if record.author_id in self.authors:
            return "author"
        if self.newer_than is not None and record.created_at is not None and record.created_at > self.newer_than:
            return "time"
        return None

    def training(self, records: Records) -> Iterator[Record]:
        """The records that may be trained on."""
        return (record for record in records() if self.held_out_as(record) is None)


FEWEST_AUTHORS = 4  # of which one is held out; with fewer, only time parts them


def split_of(records: Records, share: float) -> Split:
    """Part a data set: the same for the same records. Reads it once; memory is flat but for the authors' ids.

    Args:
        share: of the authors, and of the newest posts, that is held out.
    """
    counts: dict[str, int] = {}
    times = array("d")
    chance = random.Random(0)
    seen = 0
    for record in records():
        counts[record.author_id] = counts.get(record.author_id, 0) + 1
        if record.created_at is not None:
            seen += 1
            moment = datetime.fromisoformat(record.created_at).timestamp()
            if len(times) < SAMPLED_TIMES:
                times.append(moment)
            elif (place := chance.randrange(seen)) < SAMPLED_TIMES:
                times[place] = moment
    authors: frozenset[str] = frozenset()
    if len(counts) >= FEWEST_AUTHORS:
        authors = frozenset(sorted(counts, key=_number)[: math.ceil(share * len(counts))])
    ordered = sorted(times)
    newest = ordered[max(0, int(len(ordered) * (1 - share)) - 1)] if len(ordered) > 1 else None
    newer_than = datetime.fromtimestamp(newest, UTC).isoformat() if newest is not None else None
    split = Split(authors, newer_than)
    return replace(split, records=sum(split.held_out_as(record) is None for record in records()))


def held_out(records: Records, split: Split, conversations: Conversations, most: int) -> dict[str, list[Example]]:
    """At most so many examples of each kind of held-out record, drawn evenly from all of them."""
    drawn: dict[str, list[Record]] = {}
    met: dict[str, int] = {}
    chance = random.Random(1)
    for record in records():
        kind = split.held_out_as(record)
        if kind is None:
            continue
        met[kind] = met.get(kind, 0) + 1
        pool = drawn.setdefault(kind, [])
        if len(pool) < most:
            pool.append(record)
        elif (place := chance.randrange(met[kind])) < most:
            pool[place] = record
    return {kind: list(conversations.examples(pool)) for kind, pool in sorted(drawn.items())}


def mean_tokens(examples: Sequence[Example]) -> float:
    """Tokens of an example, on average."""
    return sum(len(e.prompt_ids) + len(e.answer_ids) for e in examples) / len(examples)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
