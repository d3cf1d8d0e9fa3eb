"""The oracle: the same learner, told what each draft truly earns on average, without luck or noise.

What it reaches is what there was to learn from so many drafts. A trained arm's share of it says how much of that was
learnt through the counts of single posts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import select

from app.learning.dataset import Logged
from app.learning.features import facts_of
from app.learning.reward import Engagement, RewardInput, score
from app.local.observer import Observer
from dbs.models import Draft
from dbs.session import Database


class Oracle:
    """Rewards by the sandbox's truth, made of it as they are made of counts. A `Relabel`.

    Args:
        floor: `ppo.refused_reward`, which a refused draft keeps.
    """

    def __init__(self, db: Database, observer: Observer, *, floor: float) -> None:
        self._db, self._observer, self._floor = db, observer, floor

    def __call__(self, training: Sequence[Logged], _seed: int) -> list[Logged]:
        """The same drafts, those that were measured with another reward; nothing is left to chance."""
        measured = [logged for logged in training if logged.measured]
        with self._db.transaction() as session:
            ids = [logged.sample.draft_id for logged in measured]
            drafts = {row.draft_id: row for row in session.scalars(select(Draft).where(Draft.draft_id.in_(ids)))}
        asked = [drafts[logged.sample.draft_id] for logged in measured]
        truths = self._observer.post("truth", [_in_its_place(draft) for draft in asked])
        inputs = [RewardInput(facts_of(draft), _expected(truth)) for draft, truth in zip(asked, truths, strict=True)]
        terms = score(inputs, floor=self._floor)
        rewards = {draft.draft_id: term["reward"] for draft, term in zip(asked, terms, strict=True)}
        return [
            replace(logged, sample=replace(logged.sample, reward=rewards[logged.sample.draft_id]))
            if logged.sample.draft_id in rewards
            else logged
            for logged in training
        ]


def _in_its_place(draft: Draft) -> dict[str, Any]:
    """As the sandbox wants it. The topic of a post of its own is read off the text there, as when it was posted."""
    return {"text": draft.content, "kind": draft.kind, "reply_to": draft.target_post_id}


def _expected(truth: dict[str, Any]) -> Engagement:
    """The expected counts, and the share of answers that speaks against the post."""
    against = truth["negative_share"] * (truth["replies"] + truth["quotes"])
    return Engagement(truth["engagement"] - against, against, {}, {}, {})
