"""PPO's turn of learning, as `app.tasks.ppo` calls it: logged drafts and their rewards (`app/learning/turn.py`)."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert
from sqlalchemy.orm import Session

from app import leases
from app.config import VibeBotConfig
from app.learning import runs
from app.learning.control import Relabel
from app.learning.dataset import gather
from app.learning.turn import Progress, RunOutcome, Turn, seed_of, take_turn
from dbs.models import TrainingSample
from dbs.session import Database
from dbs.states import CheckpointKind, RunKind

if TYPE_CHECKING:
    from app.learning.experience import Trained
    from app.learning.trainable import Trainable


def run_ppo(
    config: VibeBotConfig, db: Database, progress: Progress | None = None, *, relabel: Relabel | None = None
) -> RunOutcome:
    """Take one turn of learning from rewards.

    Args:
        relabel: for a proof's other arms: gives the training samples other rewards.

    Raises:
        Exception: whatever ended a run; its row is marked as failed with the reason first.
    """

    def make(lease: leases.Lease, heart: runs.Heartbeat) -> _PPOTurn:
        turn = _PPOTurn(config, db, lease, heart, progress)
        turn.relabel = relabel
        return turn

    return take_turn(config, db, make)


class _PPOTurn(Turn):
    run_kind = RunKind.PPO
    checkpoint_kind = CheckpointKind.PPO
    relabel: Relabel | None = None

    def gather(self, session: Session) -> None:
        self.data = gather(session, self.root, self.config, self.profile)

    def too_little(self) -> str | None:
        return self.data.too_little(self.config) or self.data.too_little_held_out(self.profile)

    def samples(self) -> int:
        return len(self.data.training)

    def settings(self) -> dict[str, Any]:
        return self.config.ppo.model_dump(mode="json")

    def fit(self, trainable: Trainable, run_id: uuid.UUID, report: Progress) -> Trained:
        from app.learning.ppo import train

        if self.relabel:
            self.data = replace(self.data, training=self.relabel(self.data.training, run_id.int))
        samples = trainable.rescored_by_author(self.data, self.config.ppo.micro_batch_size)
        return train(
            trainable.model,
            samples,
            self.config.ppo,
            banned=trainable.banned,
            seed=seed_of(run_id),
            report=report,
        )

    def record(self, session: Session, run_id: uuid.UUID) -> None:
        rows = [
            {"run_id": run_id, "draft_id": logged.sample.draft_id, "bot_id": self.config.bot_id, "held_out": held_out}
            for held_out, part in ((False, self.data.training), (True, self.data.held_out))
            for logged in part
        ]
        session.execute(insert(TrainingSample), rows)
