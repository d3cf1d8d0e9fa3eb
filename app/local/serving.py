"""How writing fared while the bot learnt, from the rows that generation and training leave."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from dbs.models import Event, TrainingRun

# A promotion is noted a moment before it is committed, and a batch reads the pointer a moment before it begins.
GRACE = timedelta(seconds=2)


@dataclass(frozen=True)
class Batch:
    """A batch of drafts, in wall time, and the checkpoint that was current when it began."""

    began: datetime
    ended: datetime
    serving: str

    @property
    def seconds(self) -> float:
        return (self.ended - self.began) / timedelta(seconds=1)

    @property
    def middle(self) -> datetime:
        return self.began + (self.ended - self.began) / 2


def serving(session: Session, bot_id: str) -> dict[str, Any]:
    """Medians of the seconds of a batch with and without a training run beside it, and what should be 0.

    `late_batches` began after a promotion and were written by what was served before it.
    """
    batches = _batches(session, bot_id)
    runs = [
        (run.started_at, run.finished_at or datetime.max.replace(tzinfo=run.started_at.tzinfo))
        for run in session.scalars(select(TrainingRun).where(TrainingRun.bot_id == bot_id))
    ]
    promotions = sorted((event.at, str(event.subject)) for event in _events(session, bot_id, "checkpoint.promoted"))
    beside = [batch.seconds for batch in batches if any(start <= batch.middle <= end for start, end in runs)]
    idle = [batch.seconds for batch in batches if not any(start <= batch.middle <= end for start, end in runs)]
    return {
        "batches": len(batches),
        "batch_s_idle": round(median(idle), 2) if idle else None,
        "batch_s_training": round(median(beside), 2) if beside else None,
        "late_batches": sum(_is_late(batch, promotions) for batch in batches),
        "failed_generation_turns": sum(
            event.subject == "generation" for event in _events(session, bot_id, "turn.failed")
        ),
    }


def _is_late(batch: Batch, promotions: list[tuple[datetime, str]]) -> bool:
    """Whether a batch was written by something older than the checkpoint promoted last before it began."""
    settled = [checkpoint for at, checkpoint in promotions if at <= batch.began - GRACE]
    newer = [checkpoint for at, checkpoint in promotions if batch.began - GRACE < at <= batch.ended]
    return bool(settled) and batch.serving not in {settled[-1], *newer}


def _batches(session: Session, bot_id: str) -> list[Batch]:
    return [
        Batch(event.at - timedelta(seconds=event.detail["seconds"]), event.at, str(event.subject))
        for event in _events(session, bot_id, "batch.written")
    ]


def _events(session: Session, bot_id: str, kind: str) -> list[Event]:
    statement = select(Event).where(Event.bot_id == bot_id, Event.kind == kind).order_by(Event.at)
    return list(session.scalars(statement))
