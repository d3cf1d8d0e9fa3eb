"""Drafts for many targets in one batch: who writes, what comes out, and whether it may be said."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.config import VibeBotConfig
from app.policy.model import LanguageModel, Sample
from app.policy.pointers import Hand
from app.policy.prompts import Prompt
from app.policy.wording import INSTRUCTIONS
from app.safety import Refusal, check_text
from dbs.states import Kind


@dataclass(frozen=True)
class Job:
    """A text to be written. `facts` are the columns of its draft that are known before it is.

    `for_a_person` says that not the bot sends it, but a person who chooses between it and another.
    """

    kind: Kind
    prompt: Prompt
    allowed_handles: frozenset[str] = frozenset()
    source_texts: tuple[str, ...] = ()
    attempt: int = 1
    for_a_person: bool = False
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Written:
    """A draft: what was asked, who wrote it, what came out, and why it may not be said, if so."""

    job: Job
    hand: Hand
    sample: Sample
    seed: int
    refusal: Refusal | None

    @property
    def content(self) -> str:
        """What is posted: what was sampled, outer white space aside."""
        return self.sample.text.strip()


class Writer:
    """Writes with whichever checkpoint chance assigns.

    Each draft is one action and is assigned on its own, a second attempt too: so arms differ by nothing but who wrote,
    refused drafts included.
    """

    def __init__(self, model: LanguageModel, config: VibeBotConfig, chooser: random.Random) -> None:
        self._model = model
        self._config = config
        self._random = chooser

    def write(self, jobs: Sequence[Job], hands: Sequence[Hand], recent: Sequence[str]) -> list[Written]:
        """One draft for each job, in their order.

        Args:
            recent: texts of ours that must not be repeated; drafts that pass here are added to them, but for those that
                a person chooses from: most are never said.
        """
        assigned = self._random.choices(hands, weights=[hand.chance for hand in hands], k=len(jobs))
        groups: defaultdict[tuple[Path, ...], list[int]] = defaultdict(list)
        for i, hand in enumerate(assigned):
            groups[hand.stack].append(i)
        samples: dict[int, tuple[Sample, int]] = {}
        for stack, members in groups.items():
            seed = self._random.randrange(2**31)
            self._model.use(stack)
            written = self._model.sample(
                [jobs[i].prompt.token_ids for i in members],
                temperature=self._config.model.temperature,
                max_new_tokens=self._config.model.max_new_tokens,
                seed=seed,
            )
            samples |= {i: (sample, seed) for i, sample in zip(members, written, strict=True)}
        said, drafts = list(recent), []
        for i, (job, hand) in enumerate(zip(jobs, assigned, strict=True)):
            sample, seed = samples[i]
            draft = Written(job, hand, sample, seed, self._refusal(job, sample, said))
            if draft.refusal is None and not job.for_a_person:
                said.append(draft.content)
            drafts.append(draft)
        return drafts

    def _refusal(self, job: Job, sample: Sample, recent: Sequence[str]) -> Refusal | None:
        return check_text(
            sample.text.strip(),
            kind=job.kind,
            allowed_handles=set(job.allowed_handles),
            recent=recent,
            safety=self._config.safety,
            source_texts=job.source_texts,
            finished=sample.finished,
            instructions=INSTRUCTIONS,
        )
