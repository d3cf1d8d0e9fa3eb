"""DPO's turn of learning, as `app.tasks.dpo` calls it: what persons chose in co-pilot mode (`app/learning/turn.py`).

A candidate goes through the same gate as PPO's: what it would earn on held-out logged drafts, and what it writes.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, select, update
from sqlalchemy.orm import Session, aliased

from app.config import VibeBotConfig
from app.learning.dataset import gather
from app.learning.turn import Progress, RunOutcome, Turn, seed_of, take_turn
from app.policy import registry
from dbs.models import Checkpoint, Draft, DraftSample, Preference, TrainingRun
from dbs.session import Database
from dbs.states import CheckpointKind, CheckpointState, RunKind

if TYPE_CHECKING:
    from app.learning.experience import Trained
    from app.learning.trainable import Trainable


@dataclass(frozen=True)
class Chosen:
    """A choice with the samples of both drafts. `fresh`: no run has taken it up yet."""

    preference_id: uuid.UUID
    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]
    edited_text: str | None
    fresh: bool


def run_dpo(config: VibeBotConfig, db: Database, progress: Progress | None = None) -> RunOutcome:
    """Take one turn of learning from choices.

    Raises:
        Exception: whatever ended a run; its row is marked as failed with the reason first.
    """
    return take_turn(config, db, lambda lease, heart: _DPOTurn(config, db, lease, heart, progress))


class _DPOTurn(Turn):
    run_kind = RunKind.DPO
    checkpoint_kind = CheckpointKind.DPO
    chosen: Sequence[Chosen] = ()

    def gather(self, session: Session) -> None:
        self.chosen = choices(session, self.config)
        # The gate's posts; the rest is PPO's.
        self.data = gather(session, self.root, self.config, self.profile)

    def too_little(self) -> str | None:
        fresh, least = sum(one.fresh for one in self.chosen), self.config.dpo.min_pairs
        if fresh < least:
            return f"{fresh} fresh choices of persons, {least} are needed"
        return self.data.too_little_held_out(self.profile)

    def samples(self) -> int:
        return len(self.chosen)

    def settings(self) -> dict[str, Any]:
        return self.config.dpo.model_dump(mode="json")

    def fit(self, trainable: Trainable, run_id: uuid.UUID, report: Progress) -> Trained:
        from app.learning.dpo import Pair, train
        from app.policy.prompts import PromptBuilder

        prompts = PromptBuilder(trainable.tokenizer, self.config.model.max_prompt_tokens)
        pairs = [
            Pair(
                one.prompt_ids,
                one.chosen_ids if one.edited_text is None else prompts.answer(one.edited_text),
                one.rejected_ids,
            )
            for one in self.chosen
        ]
        return train(
            trainable,
            pairs,
            self.config.dpo,
            temperature=self.config.model.temperature,
            work=Path(self.config.data_dir) / "runs" / self.config.bot_id / str(run_id),
            seed=seed_of(run_id),
            report=report,
        )

    def record(self, session: Session, run_id: uuid.UUID) -> None:
        ids = [one.preference_id for one in self.chosen]
        session.execute(update(Preference).where(Preference.preference_id.in_(ids)).values(run_id=run_id))


def choices(session: Session, config: VibeBotConfig) -> list[Chosen]:
    """The newest choices between drafts of the current base that no served checkpoint has learnt from.

    Raises:
        CheckpointError: the bot has no current checkpoint.
    """
    current = registry.current(session, config.bot_id)
    if current is None:
        raise registry.UnknownCheckpointError(f"bot {config.bot_id} has no current checkpoint; start generation once")
    rows = session.execute(_unlearnt(config.bot_id, current.base_hash).limit(config.dpo.max_pairs))
    return [
        Chosen(
            preference.preference_id,
            chosen.prompt_token_ids,
            chosen.output_token_ids,
            rejected.output_token_ids,
            preference.edited_text,
            preference.run_id is None,
        )
        for preference, chosen, rejected in rows
    ]


def _unlearnt(bot_id: str, base_hash: str) -> Select[Preference, DraftSample, DraftSample]:
    # What became of a run's checkpoint decides: a candidate that was refused taught the bot nothing.
    learnt = (
        select(TrainingRun.run_id)
        .join(Checkpoint, Checkpoint.checkpoint_id == TrainingRun.checkpoint_id)
        .where(Checkpoint.state.in_([CheckpointState.SERVED, CheckpointState.CANARY]))
    )
    chosen, rejected = aliased(DraftSample), aliased(DraftSample)
    of_this_base = (
        select(Draft.draft_id)
        .join(Checkpoint, Checkpoint.checkpoint_id == Draft.checkpoint_id)
        .where(Draft.bot_id == bot_id, Checkpoint.base_hash == base_hash)
    )
    return (
        select(Preference, chosen, rejected)
        .join(chosen, chosen.draft_id == Preference.chosen_draft_id)
        .join(rejected, rejected.draft_id == Preference.rejected_draft_id)
        .where(
            Preference.bot_id == bot_id,
            Preference.run_id.is_(None) | Preference.run_id.not_in(learnt),
            Preference.chosen_draft_id.in_(of_this_base),
            Preference.rejected_draft_id.in_(of_this_base),
        )
        .order_by(Preference.chosen_at.desc(), Preference.preference_id)
    )
