"""Work that waits is counted where it waits, and only from the moment at which it could be done."""

from __future__ import annotations

from datetime import timedelta

import pytest
from factories import give_checkpoint, give_draft, give_persona, give_seen

from app import clock
from app.celery import TASK_QUEUES
from app.config import VibeBotConfig
from app.monitor.backlog import WORK, backlog
from app.posting import queue_drafts
from dbs.models import Bot, Checkpoint, Post
from dbs.session import Database
from dbs.states import DraftState, PostState, SeenState

AGO = timedelta(minutes=20)


@pytest.fixture
def checkpoint(database: Database, bot: Bot) -> Checkpoint:
    with database.transaction() as session:
        give_persona(session)
        return give_checkpoint(session)


def waiting(database: Database, config: VibeBotConfig) -> dict[str, tuple[int, float]]:
    """What waits, without what does not, and for how many minutes its oldest has."""
    with database.transaction() as session:
        found = backlog(session, config, clock.now())
    return {work: (one.waiting, round(one.oldest / 60)) for work, one in found.items() if one.waiting}


def test_nothing_waits_where_there_is_nothing(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint
) -> None:
    with database.transaction() as session:
        found = backlog(session, config, clock.now())
    assert found.keys() == WORK.keys()
    assert {(one.waiting, one.oldest) for one in found.values()} == {(0, 0.0)}
    assert {one.queue for one in found.values()} <= set(TASK_QUEUES.values())


def test_posts_wait_for_the_model(database: Database, config: VibeBotConfig, checkpoint: Checkpoint) -> None:
    now = clock.now()
    with database.transaction() as session:
        give_seen(session, "1", first_seen_at=now - AGO)
        give_seen(session, "2", first_seen_at=now - AGO / 2)
        give_seen(session, "3", first_seen_at=now - 3 * AGO, state=SeenState.SELECTED)
        give_seen(session, "4", first_seen_at=now - 9 * AGO, state=SeenState.DRAFTED)
    assert waiting(database, config) == {"judge": (2, 20), "answer": (1, 60)}


def test_a_draft_waits_to_be_queued_then_to_be_sent_then_to_be_measured(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint
) -> None:
    now = clock.now()
    with database.transaction() as session:
        give_draft(session, checkpoint, "A text that waits.", created_at=now - AGO)
        give_draft(session, checkpoint, "One for a person.", created_at=now - 9 * AGO, state=DraftState.WAITING)
    assert waiting(database, config) == {"queue": (1, 20)}
    queue_drafts(database, config)

    def becomes(**values: object) -> dict[str, tuple[int, float]]:
        with database.transaction() as session:
            for name, value in values.items():
                setattr(session.query(Post).one(), name, value)
        return waiting(database, config)

    assert becomes(due_at=now + AGO) == {}
    assert becomes(due_at=now - AGO) == {"send": (1, 20)}
    assert becomes(state=PostState.UNCONFIRMED) == {"settle": (1, 20)}
    posted = {"state": PostState.POSTED, "x_post_id": "9", "post_time": now}
    assert becomes(**posted, next_measure_at=now + AGO) == {}
    assert becomes(next_measure_at=now - 2 * AGO) == {"measure": (1, 40)}
    assert becomes(next_measure_at=None) == {}


def test_nothing_is_to_be_sent_while_it_is_quiet(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint
) -> None:
    now = clock.now()
    with database.transaction() as session:
        give_draft(session, checkpoint, "A text that waits.")
    queue_drafts(database, config)
    with database.transaction() as session:
        session.query(Post).one().due_at = now - AGO
    hours = f"{now - AGO:%H:%M}-{now + AGO:%H:%M}"
    quiet = config.model_copy(update={"safety": config.safety.model_copy(update={"quiet_hours": hours})})
    assert waiting(database, config) == {"send": (1, 20)}
    assert waiting(database, quiet) == {}


def test_another_bot_s_work_is_not_ours(database: Database, config: VibeBotConfig, checkpoint: Checkpoint) -> None:
    with database.transaction() as session:
        session.add(Bot(bot_id="other", user_id="2", handle="other", created_at=clock.now()))
        session.flush()
        give_seen(session, "1", bot_id="other", first_seen_at=clock.now() - AGO)
    assert waiting(database, config) == {}
    assert set(waiting(database, config.model_copy(update={"bot_id": "other"}))) == {"judge"}
