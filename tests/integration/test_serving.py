"""What the report says of writing beside training, against rows of which the answer is known."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from app import events
from app.local.serving import serving
from app.loops import run_turn
from app.schedule import LoopName
from dbs.models import Event, TrainingRun
from dbs.session import Database
from dbs.states import RunKind, RunState

BOT = "explorer"
NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def note(database: Database, end: float, kind: str, subject: str, **detail: float) -> None:
    with database.transaction() as session:
        session.add(Event(bot_id=BOT, at=at(end), kind=kind, subject=subject, detail=detail))


def training(database: Database, start: float, end: float) -> None:
    with database.transaction() as session:
        session.add(
            TrainingRun(
                run_id=uuid.uuid4(), bot_id=BOT, kind=RunKind.PPO, state=RunState.SUCCEEDED, fence=1,
                started_at=at(start), finished_at=at(end),
            )
        )  # fmt: skip


@pytest.mark.usefixtures("bot")
def test_batches_are_told_apart_by_the_run_beside_them(database: Database) -> None:
    training(database, 100, 200)
    for end, seconds in ((50, 4), (90, 6), (150, 9), (180, 11), (198, 40), (300, 5)):
        note(database, end, "batch.written", "old", seconds=seconds)
    with database.transaction() as session:
        found = serving(session, BOT)
    assert found == {
        "batches": 6, "batch_s_idle": 5.0, "batch_s_training": 11.0, "late_batches": 0, "failed_generation_turns": 0,
    }  # fmt: skip


@pytest.mark.usefixtures("bot")
def test_a_batch_that_missed_a_promotion_is_late(database: Database) -> None:
    note(database, 100, "checkpoint.promoted", "new")
    note(database, 110, "batch.written", "old", seconds=30)  # began before
    note(database, 120, "batch.written", "new", seconds=9)
    note(database, 130, "batch.written", "old", seconds=9)
    with database.transaction() as session:
        assert serving(session, BOT)["late_batches"] == 1


@pytest.mark.usefixtures("bot")
def test_nothing_written_has_no_median(database: Database) -> None:
    with database.transaction() as session:
        found = serving(session, BOT)
    assert (found["batches"], found["batch_s_idle"], found["batch_s_training"]) == (0, None, None)


@pytest.mark.usefixtures("bot")
def test_a_turn_that_fails_leaves_an_event(database: Database, config) -> None:
    from app import loops

    with database.transaction() as session:
        loops.ensure(session, config)
        events.record(session, BOT, "another.kind")

    def fail() -> int:
        raise RuntimeError("no model")

    with pytest.raises(RuntimeError):
        run_turn(database, config, LoopName.GENERATION, fail, by_hand=True)
    with database.transaction() as session:
        assert serving(session, BOT)["failed_generation_turns"] == 1
        assert [e.detail for e in session.query(Event).filter_by(kind="turn.failed")] == [
            {"error": "RuntimeError: no model"}
        ]
