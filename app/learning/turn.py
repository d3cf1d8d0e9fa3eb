"""One turn of learning, whatever is learnt from: rewards, the canary, a training run, the gate, the pointer.

Only the holder of the lease `training` works, and what it decides is committed in one transaction that checks its
fence. A run that is killed leaves a row that the next turn marks as failed, and at most a directory that no row names,
which the next turn removes.
"""

from __future__ import annotations

import gc
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from app import clock, events, forgotten, leases
from app.config import VibeBotConfig
from app.learning import canary, limits, runs
from app.learning.dataset import Dataset
from app.learning.gate import PROFILES, Profile, Verdict
from app.learning.rewarding import compute_rewards
from app.policy import checkpoints, registry
from app.policy.checkpoints import AdapterRef, CheckpointError, Manifest
from app.policy.roots import root_of
from dbs.models import Checkpoint, GateVerdict, Post
from dbs.session import Database
from dbs.states import CheckpointKind, CheckpointState, RunKind, RunState

if TYPE_CHECKING:
    from app.learning.experience import Trained
    from app.learning.trainable import Trainable

log = structlog.get_logger()

KEPT_CHECKPOINTS = 10  # that nothing needs any more
RECENT_POSTS = 200  # of the bot, which no sample may repeat

# Called after every optimiser step with the step, the steps planned and the step's metrics.
Progress = Callable[[int, int, dict[str, float]], None]


@dataclass(frozen=True)
class RunOutcome:
    """What a turn came to. `skipped` is a turn without a run; `promoted` says that the pointer moved."""

    state: RunState | Literal["skipped"]
    reason: str | None = None
    promoted: bool = False
    rewarded: int = 0
    samples: int = 0
    run_id: uuid.UUID | None = None
    checkpoint_id: uuid.UUID | None = None
    metrics: dict[str, float] = field(default_factory=dict)


def take_turn(config: VibeBotConfig, db: Database, make: Callable[[leases.Lease, runs.Heartbeat], Turn]) -> RunOutcome:
    """Take a turn under the training lease; one that somebody else holds is a turn skipped.

    Raises:
        Exception: whatever ended a run; its row is marked as failed with the reason first.
    """
    try:
        holding = leases.hold(db, config.bot_id, leases.TRAINING_LEASE, runs.LEASE_SECONDS)
        with holding as lease, runs.Heartbeat(lease) as heart:
            outcome = make(lease, heart).take()
    except leases.LeaseTaken as error:
        outcome = RunOutcome("skipped", str(error))
    log.info("training.turn", state=str(outcome.state), reason=outcome.reason, promoted=outcome.promoted)
    return outcome


class Turn(ABC):
    """A turn. What is learnt from, and how, is a subclass's; the gate and everything around it is the same for all.

    A turn without enough to learn from costs a few queries: torch and the model are imported by a run alone.

    Attributes:
        data: the rewarded drafts; the gate's held-out ones are among them.
    """

    run_kind: ClassVar[RunKind]
    checkpoint_kind: ClassVar[CheckpointKind]

    def __init__(
        self,
        config: VibeBotConfig,
        db: Database,
        lease: leases.Lease,
        heart: runs.Heartbeat,
        progress: Progress | None,
    ) -> None:
        self.config, self.db, self.lease, self.heart = config, db, lease, heart
        self.progress = progress
        self.profile: Profile = PROFILES[config.ppo.gate]
        self.root = root_of(config)
        self.forgotten = 0  # how many subjects were, when the data was read
        self.data = Dataset([], [], {})

    @abstractmethod
    def gather(self, session: Session) -> None:
        """Read what there is to learn from, and into `data` what the gate needs."""

    @abstractmethod
    def too_little(self) -> str | None:
        """Why a run is not worth its time yet, or None if it is."""

    @abstractmethod
    def samples(self) -> int:
        """How many samples the run learns from."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The settings that made the candidate, for its manifest."""

    @abstractmethod
    def fit(self, trainable: Trainable, run_id: uuid.UUID, report: Progress) -> Trained:
        """Move the policy adapter."""

    @abstractmethod
    def record(self, session: Session, run_id: uuid.UUID) -> None:
        """Note what the run learnt from."""

    def take(self) -> RunOutcome:
        bot_id = self.config.bot_id
        with self.db.transaction() as session:
            runs.bury_dead(session, self.lease)
            registry.sweep(session, self.root, bot_id)
            found = compute_rewards(session, self.config, clock.now())
            rewarded = found.measured + found.refused
            decision = canary.rule(session, self.root, self.config, self.lease)
            promoted = decision is not None and decision.ruling == canary.Ruling.PROMOTE
        if decision is not None and decision.ruling == canary.Ruling.CONTINUE:
            return RunOutcome("skipped", f"a canary is being tried: {decision.reason}", rewarded=rewarded)
        with self.db.transaction() as session:
            parent = registry.current(session, bot_id)
            if parent is None:
                return RunOutcome("skipped", "the bot has no checkpoint yet: nothing was generated", rewarded=rewarded)
            self.forgotten = forgotten.count(session, bot_id)
            self.gather(session)
        reason = self.too_little()
        if reason is not None:
            return RunOutcome("skipped", reason, promoted=promoted, rewarded=rewarded)
        run_id = runs.begin(self.db, self.lease, self.run_kind, parent.checkpoint_id)
        try:
            return self._run(run_id, parent, rewarded)
        except BaseException as error:
            # A time limit and an interrupt too: no run stays `running` but one whose process was killed outright.
            runs.fail(self.db, bot_id, run_id, error)
            log.exception("training.failed", run_id=str(run_id))
            raise

    def _run(self, run_id: uuid.UUID, parent: Checkpoint, rewarded: int) -> RunOutcome:
        trained, manifest = self._train(run_id, parent)
        verdict = self._examine(parent, manifest) if manifest else None
        with self.db.transaction() as session:
            # First of all, as `app/forgotten.py` asks: a verdict must not bring back the words of somebody who was
            # forgotten while it was made.
            if verdict and forgotten.count(session, self.config.bot_id) != self.forgotten:
                verdict = replace(verdict, samples=[])
            self.lease.check(session)
            self.record(session, run_id)
            state, reason, promoted = RunState.STOPPED, trained.stopped, False
            if manifest and verdict:
                verdict = self._unless_moved(session, parent, verdict)
                state, promoted = RunState.SUCCEEDED, self._settle(session, parent, manifest, verdict)
                reason = "; ".join(verdict.reasons) or trained.stopped
            runs.finish(
                session,
                run_id,
                state,
                reason,
                checkpoint_id=manifest.checkpoint_id if manifest else None,
                samples=self.samples(),
                metrics=runs.storable({**trained.metrics, "steps": trained.steps}),
            )
            registry.prune(session, self.root, self.config.bot_id, KEPT_CHECKPOINTS)
        return RunOutcome(
            state=state,
            reason=reason,
            promoted=promoted,
            rewarded=rewarded,
            samples=self.samples(),
            run_id=run_id,
            checkpoint_id=manifest.checkpoint_id if manifest else None,
            metrics=trained.metrics,
        )

    def _train(self, run_id: uuid.UUID, parent: Checkpoint) -> tuple[Trained, Manifest | None]:
        """Train on the data and write the candidate; no manifest where no step could be made."""
        # torch and the model: seconds and a gigabyte that a turn without enough data does not pay.
        from app.learning.metrics import MetricsLog
        from app.learning.trainable import Trainable
        from app.policy.base_model import base_directory

        limits.bound_gpu(self.config.ppo)
        stack = registry.stack(self.root, parent)
        base = checkpoints.base_hash(base_directory(self.config.model))
        if base != parent.base_hash:
            raise CheckpointError(
                f"model.hf_repo_id: {self.config.model.hf_repo_id} has hash {base[:12]}, the current checkpoint sits "
                f"on {parent.base_model} ({parent.base_hash[:12]}); name that one, or promote one of this base"
            )
        for _, path in stack:
            checkpoints.verify(path, base, self.config.bot_id)
        trainable = Trainable(self.config, stack, seed=seed_of(run_id))
        with MetricsLog(Path(self.config.data_dir) / "runs" / self.config.bot_id / str(run_id)) as metrics_log:

            def report(step: int, steps: int, metrics: dict[str, float]) -> None:
                self.heart.check()
                metrics_log.write(step, metrics)
                runs.progress(self.db, run_id, step, steps, metrics)
                if self.progress:
                    self.progress(step, steps, metrics)

            trained = self.fit(trainable, run_id, report)
        if trained.steps == 0:
            return trained, None
        state, adapter_config = trainable.adapter()
        _, manifest = checkpoints.write(self.root, state, adapter_config, self._manifest(run_id, parent, trained))
        del trainable, state
        gc.collect()  # the gate loads the model anew, as the bot would; two at once would double the memory
        return trained, manifest

    def _manifest(self, run_id: uuid.UUID, parent: Checkpoint, trained: Trained) -> Manifest:
        checkpoint_id = uuid.uuid4()
        below = [AdapterRef.model_validate(ref) for ref in parent.manifest["stack"] if ref["name"] == "reference"]
        return Manifest(
            checkpoint_id=checkpoint_id,
            bot_id=self.config.bot_id,
            kind=self.checkpoint_kind,
            base_model=parent.base_model,
            base_hash=parent.base_hash,
            stack=[*below, AdapterRef(name="policy", checkpoint_id=checkpoint_id)],
            parent_id=parent.checkpoint_id,
            run_id=run_id,
            samples=self.samples(),
            config=self.settings(),
            metrics=runs.storable({**trained.metrics, "steps": trained.steps}),
            created_at=clock.now(),
        )

    def _examine(self, parent: Checkpoint, manifest: Manifest) -> Verdict:
        from app.learning.examination import Sides, examine, look_at_weights  # torch, which a run has loaded by now
        from app.policy.model import LanguageModel

        self.heart.check()
        place = checkpoints.directory
        candidate = [(ref.name, place(self.root, manifest.bot_id, ref.checkpoint_id)) for ref in manifest.stack]
        if self.profile.open:
            return look_at_weights(candidate, self.profile, base_hash=manifest.base_hash, config=self.config)
        with self.db.transaction() as session:
            reference = registry.reference(session, self.config.bot_id)
            recent = _recent_texts(session, self.config.bot_id)
        sides = Sides(
            candidate=candidate,
            incumbent=registry.stack(self.root, parent),
            reference=registry.stack(self.root, reference) if reference else [],
        )
        model = LanguageModel(self.config.model)
        return examine(model, sides, self.data, self.profile, config=self.config, recent=recent)

    def _unless_moved(self, session: Session, parent: Checkpoint, verdict: Verdict) -> Verdict:
        """The verdict, or a refusal where a person moved the pointer away from the parent meanwhile."""
        current = registry.current(session, self.config.bot_id)
        if current is not None and current.checkpoint_id == parent.checkpoint_id:
            return verdict
        reason = "the current checkpoint was changed by hand while this one was trained from the one before"
        return replace(verdict, passed=False, reasons=[*verdict.reasons, reason])

    def _settle(self, session: Session, parent: Checkpoint, manifest: Manifest, verdict: Verdict) -> bool:
        """Commit the candidate with its verdict, and move the pointer if it may; whether it moved."""
        bot_id = self.config.bot_id
        row = registry.commit(session, manifest)
        session.add(
            GateVerdict(
                bot_id=bot_id,
                checkpoint_id=row.checkpoint_id,
                incumbent_id=parent.checkpoint_id,
                profile=verdict.profile,
                passed=verdict.passed,
                numbers=verdict.numbers,
                reasons=verdict.reasons,
                samples=verdict.samples,
                judged_at=clock.now(),
            )
        )
        if not verdict.passed:
            row.state = CheckpointState.REFUSED
            events.record(session, bot_id, "checkpoint.refused", str(row.checkpoint_id), reasons=verdict.reasons)
        elif self.profile.canary:
            row.state = CheckpointState.CANARY
            events.record(session, bot_id, "canary.started", str(row.checkpoint_id))
        else:
            registry.promote(session, self.root, bot_id, row.checkpoint_id, lease=self.lease)
            return True
        return False


def seed_of(run_id: uuid.UUID) -> int:
    """What chance in a run begins from."""
    return run_id.int % 2**31


def _recent_texts(session: Session, bot_id: str) -> list[str]:
    return list(
        session.scalars(
            select(Post.content).where(Post.bot_id == bot_id).order_by(Post.queued_at.desc()).limit(RECENT_POSTS)
        )
    )
