"""The rows of training runs, and the heartbeat that keeps their lease."""

from __future__ import annotations

import threading
import uuid
from types import TracebackType
from typing import Any

import structlog
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app import clock, events, leases
from app.learning import limits
from app.leases import Lease, LeaseLost
from app.readiness import is_training
from dbs.models import TrainingRun
from dbs.session import Database
from dbs.states import RunKind, RunState

log = structlog.get_logger()

LEASE_SECONDS = 90.0  # how long after a kill the next run has to wait
BEAT_SECONDS = 20.0
LONGEST_REASON = 1000  # characters


class Heartbeat:
    """Renews a lease from a thread of its own for the length of a block: one step may take longer than the lease."""

    def __init__(self, lease: Lease, seconds: float = BEAT_SECONDS) -> None:
        self._lease = lease
        self._seconds = seconds
        self._over = threading.Event()
        self._lost: LeaseLost | None = None
        self._thread = threading.Thread(target=self._beat, name="lease-heartbeat", daemon=True)

    def check(self) -> None:
        """Make sure that the lease was still ours at the last beat.

        Raises:
            LeaseLost: it was not; whatever is being made can never be committed.
        """
        if self._lost is not None:
            raise self._lost

    def _beat(self) -> None:
        while not self._over.wait(self._seconds):
            try:
                self._lease.renew()
            except LeaseLost as error:
                self._lost = error
                return
            except Exception:
                # The database may be away for a moment. The lease may run out meanwhile; the fence then decides.
                log.warning("lease.renewal_failed", lease=self._lease.name, exc_info=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()


def bury_dead(session: Session, lease: Lease) -> list[uuid.UUID]:
    """Mark runs as failed that a process with an older fence left behind: it was killed, or stalled past its lease."""
    dead = list(
        session.scalars(
            update(TrainingRun)
            .where(
                TrainingRun.bot_id == lease.bot_id,
                TrainingRun.state == RunState.RUNNING,
                TrainingRun.fence < lease.fence,
            )
            .values(
                state=RunState.FAILED,
                finished_at=clock.wall_now(),
                reason="its process ended without a word: killed, out of memory, or the machine went down",
            )
            .returning(TrainingRun.run_id)
        )
    )
    for run_id in dead:
        events.record(session, lease.bot_id, "training.failed", str(run_id), reason="its process was gone")
    return dead


def bury_abandoned(db: Database, bot_id: str) -> list[uuid.UUID]:
    """Mark runs as failed whose process is gone, for whoever is not about to train: cheap where there is none.

    It takes the lease for a moment, so that a process that only stalled finds its fence passed and commits nothing.
    """
    unfinished = (
        select(TrainingRun.run_id).where(TrainingRun.bot_id == bot_id, TrainingRun.state == RunState.RUNNING).limit(1)
    )
    with db.transaction() as session:
        if is_training(session, bot_id) or session.scalars(unfinished).first() is None:
            return []
    try:
        with leases.hold(db, bot_id, leases.TRAINING_LEASE, LEASE_SECONDS) as lease, db.transaction() as session:
            return bury_dead(session, lease)
    except leases.LeaseTaken:
        return []  # a run has begun meanwhile, and buries its dead itself


def begin(db: Database, lease: Lease, kind: RunKind, parent_id: uuid.UUID | None) -> uuid.UUID:
    """Open a run under the lease.

    Raises:
        LeaseLost: the lease was taken meanwhile.
    """
    run_id = uuid.uuid4()
    with db.transaction() as session:
        lease.check(session)
        session.add(
            TrainingRun(
                run_id=run_id,
                bot_id=lease.bot_id,
                kind=kind,
                state=RunState.RUNNING,
                fence=lease.fence,
                started_at=clock.wall_now(),
                parent_id=parent_id,
            )
        )
    return run_id


def progress(db: Database, run_id: uuid.UUID, step: int, steps: int, metrics: dict[str, Any]) -> None:
    """Write how far a run is, for whoever looks."""
    with db.transaction() as session:
        session.execute(
            update(TrainingRun)
            .where(TrainingRun.run_id == run_id, TrainingRun.state == RunState.RUNNING)
            .values(progress={"step": step, "steps": steps, "metrics": storable(metrics)})
        )


def finish(session: Session, run_id: uuid.UUID, state: RunState, reason: str | None = None, **values: Any) -> None:
    """End a run that is still running; one that was buried stays as it is."""
    session.execute(
        update(TrainingRun)
        .where(TrainingRun.run_id == run_id, TrainingRun.state == RunState.RUNNING)
        .values(state=state, finished_at=clock.wall_now(), reason=reason[:LONGEST_REASON] if reason else None, **values)
    )


def fail(db: Database, bot_id: str, run_id: uuid.UUID, error: BaseException) -> None:
    """Mark a run as failed with what ended it: an exception, a time limit, memory."""
    reason = limits.reason_of(error)
    limits.unbind_process()
    with db.transaction() as session:
        finish(session, run_id, RunState.FAILED, reason)
        events.record(session, bot_id, "training.failed", str(run_id), reason=reason[:LONGEST_REASON])


def storable(metrics: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN and no infinity: they are stored as words."""
    return {
        name: value if not isinstance(value, float) or abs(value) < float("inf") else str(value)
        for name, value in metrics.items()
    }
