"""The jump start's training: LoRA SFT on the community's posts, whose adapter becomes the frozen reference.

It runs under the training lease, as PPO does, and what it decides is committed in one transaction that checks the
fence. A run that was killed leaves the trainer's own checkpoints in its work directory, and the next one with the same
data and settings goes on from the newest.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import structlog

from app import clock, leases, persona
from app.config import VibeBotConfig
from app.data import files
from app.data.files import FileEntry
from app.learning import runs
from app.policy import checkpoints, registry
from app.policy.checkpoints import AdapterRef, Manifest
from app.policy.roots import Root, root_of
from dbs.models import Checkpoint
from dbs.session import Database
from dbs.states import CheckpointKind, RunKind, RunState

log = structlog.get_logger()

Progress = Callable[[int, int, dict[str, float]], None]


@dataclass(frozen=True)
class SFTOutcome:
    """What a jump start came to. `skipped` is one that was not needed, or not possible now."""

    state: RunState | Literal["skipped"]
    reason: str | None = None
    run_id: uuid.UUID | None = None
    checkpoint_id: uuid.UUID | None = None
    samples: int = 0
    metrics: dict[str, float] = field(default_factory=dict)


def run_sft(
    config: VibeBotConfig,
    db: Database,
    directory: Path,
    entries: Sequence[FileEntry],
    progress: Progress | None = None,
    *,
    bring: Callable[[], None] | None = None,
) -> SFTOutcome:
    """Train on a data set, and make the adapter the reference and the current checkpoint.

    Args:
        directory, entries: the files, and how much of each counts.
        progress: called after every optimiser step with the step, the steps planned and the step's metrics.
        bring: fetches the files that this machine lacks; called once the run has its row, which keeps them here.

    Raises:
        Exception: whatever ended the run; its row is marked as failed with the reason first.
    """
    try:
        holding = leases.hold(db, config.bot_id, leases.TRAINING_LEASE, runs.LEASE_SECONDS)
        with holding as lease, runs.Heartbeat(lease) as heart:
            outcome = _Run(config, db, lease, heart, directory, entries, progress, bring).take()
    except leases.LeaseTaken as error:
        outcome = SFTOutcome("skipped", str(error))
    log.info("sft.ended", state=str(outcome.state), reason=outcome.reason, **outcome.metrics)
    return outcome


@dataclass(frozen=True)
class _Run:
    """What the steps of one run share."""

    config: VibeBotConfig
    db: Database
    lease: leases.Lease
    heart: runs.Heartbeat
    directory: Path
    entries: Sequence[FileEntry]
    progress: Progress | None
    bring: Callable[[], None] | None

    @property
    def root(self) -> Root:
        return root_of(self.config)

    def take(self) -> SFTOutcome:
        from app.policy.base_model import base_directory  # the hub's client

        bot_id = self.config.bot_id
        base = base_directory(self.config.model)
        base_hash = checkpoints.base_hash(base)
        with self.db.transaction() as session:
            runs.bury_dead(session, self.lease)
            registry.sweep(session, self.root, bot_id)
            parent = registry.ensure_base(session, bot_id, self.config.model.hf_repo_id, base_hash)
            current = registry.current(session, bot_id)
            who = persona.as_config(persona.current(session, bot_id), adaptive=self.config.persona.adaptive)
        if current is not None and current.checkpoint_id != parent.checkpoint_id:
            return SFTOutcome(
                "skipped",
                f"the bot writes with {current.kind} checkpoint {current.checkpoint_id} already; a jump start begins "
                "from the base model: `explorer checkpoints promote` it first",
                checkpoint_id=current.checkpoint_id,
            )
        run_id = runs.begin(self.db, self.lease, RunKind.SFT, parent.checkpoint_id)
        try:
            if self.bring is not None:
                self.bring()
            return self._train(run_id, parent, base, who)
        except BaseException as error:
            log.exception("training.failed", run_id=str(run_id))
            runs.fail(self.db, bot_id, run_id, error)
            raise

    def _train(self, run_id: uuid.UUID, parent: Checkpoint, base: Path, who: Any) -> SFTOutcome:
        from app.learning.metrics import MetricsLog
        from app.learning.sfttrainer import Job, train

        # Not a method: `datasets` pickles what it streams from, and a run holds the database.
        records = partial(files.records, self.directory, tuple(self.entries))
        work = self._work_directory(parent.base_hash, who)
        with MetricsLog(Path(self.config.data_dir) / "runs" / self.config.bot_id / str(run_id)) as metrics_log:

            def report(step: int, steps: int, metrics: dict[str, float]) -> None:
                self.heart.check()
                metrics_log.write(step, metrics)
                runs.progress(self.db, run_id, step, steps, metrics)
                if self.progress:
                    self.progress(step, steps, metrics)

            trained = train(Job(self.config, base, records, who, work), report)
        manifest = Manifest(
            checkpoint_id=(checkpoint_id := uuid.uuid4()),
            bot_id=self.config.bot_id,
            kind=CheckpointKind.SFT,
            base_model=parent.base_model,
            base_hash=parent.base_hash,
            stack=[AdapterRef(name="reference", checkpoint_id=checkpoint_id)],
            parent_id=parent.checkpoint_id,
            run_id=run_id,
            samples=trained.samples,
            config=self.config.sft.model_dump(mode="json"),
            metrics=runs.storable(trained.metrics),
            created_at=clock.now(),
        )
        _, manifest = checkpoints.write(self.root, trained.state, trained.adapter_config, manifest)
        with self.db.transaction() as session:
            self.lease.check(session)
            registry.commit(session, manifest)
            registry.promote(session, self.root, self.config.bot_id, checkpoint_id, lease=self.lease)
            runs.finish(
                session,
                run_id,
                RunState.SUCCEEDED,
                trained.stopped,
                checkpoint_id=checkpoint_id,
                samples=trained.samples,
                metrics=runs.storable(trained.metrics),
            )
        shutil.rmtree(work, ignore_errors=True)  # a run that is committed needs nothing to go on from
        return SFTOutcome(RunState.SUCCEEDED, trained.stopped, run_id, checkpoint_id, trained.samples, trained.metrics)

    def _work_directory(self, base_hash: str, who: Any) -> Path:
        """Where the trainer keeps what it goes on from: the same for the same data, base, persona and settings."""
        facts = [
            base_hash,
            [{"bytes": entry.bytes, "posts": entry.posts} for entry in self.entries],
            self.config.sft.model_dump(mode="json"),
            who.model_dump(mode="json"),
        ]
        name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        return Path(self.config.data_dir) / "runs" / self.config.bot_id / f"sft-{name}"
