"""What each checkpoint earned, and how long it took until it was the one that writes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from factories import BOT, give_checkpoint, give_draft, give_persona

from app import clock, events
from app.monitor.checkpoints import Reload, earned, last_reload, served
from dbs.models import Bot, Checkpoint, Event, Reward
from dbs.session import Database
from dbs.states import CheckpointKind

DAY = timedelta(days=1)


@pytest.fixture
def checkpoint(database: Database, bot: Bot) -> Checkpoint:
    with database.transaction() as session:
        give_persona(session)
        return give_checkpoint(session)


def reward(database: Database, checkpoint: Checkpoint, value: float, engagement: float | None, age: timedelta) -> None:
    now = clock.now()
    with database.transaction() as session:
        draft = give_draft(session, checkpoint, f"A text that earned {value} at {age}.")
        session.add(Reward(draft_id=draft.draft_id, reward_version="1", bot_id=BOT, engagement=engagement, reward=value,
                           terms={}, computed_at=now - age))  # fmt: skip


def test_each_checkpoint_has_what_its_own_drafts_earned(database: Database, checkpoint: Checkpoint) -> None:
    with database.transaction() as session:
        before = give_checkpoint(session, kind=CheckpointKind.PPO, is_current=False, is_reference=False)
        give_checkpoint(session, kind=CheckpointKind.PPO, is_current=False, is_reference=False)  # wrote nothing
    for value, engagement in ((1.0, 4.0), (-2.0, None)):
        reward(database, before, value, engagement, DAY / 2)
    reward(database, before, 50.0, 50.0, 2 * DAY)
    with database.transaction() as session:
        found = {row.checkpoint_id: row for row in earned(session, BOT, clock.now() - DAY)}
    assert found.keys() == {str(checkpoint.checkpoint_id), str(before.checkpoint_id)}
    old, current = found[str(before.checkpoint_id)], found[str(checkpoint.checkpoint_id)]
    assert (old.kind, old.rewards, old.reward, old.engagement) == ("ppo", 2, -0.5, 4.0)
    # Nothing is known of what is served yet, and that is not 0.
    assert (current.kind, current.rewards, current.reward, current.engagement) == ("base", 0, None, None)


def test_a_bot_without_a_checkpoint_serves_and_earns_nothing(database: Database, bot: Bot) -> None:
    with database.transaction() as session:
        assert served(session, BOT) is None
        assert earned(session, BOT, clock.now() - DAY) == []
        assert last_reload(session, BOT) is None


def test_a_reload_is_timed_from_its_promotion(database: Database, bot: Bot) -> None:
    at = clock.wall_now()

    def note(second: float, kind: str, subject: str, **detail: object) -> None:
        with database.transaction() as session:
            events.record(session, BOT, kind, subject, **detail)
            session.flush()
            session.query(Event).order_by(Event.event_id.desc()).limit(1).one().at = at + timedelta(seconds=second)

    note(0, "checkpoint.promoted", "new")
    with database.transaction() as session:
        assert last_reload(session, BOT) is None
    note(7, "checkpoint.reloaded", "new", before="old", seconds=0.25)
    note(9, "checkpoint.promoted", "newer")  # which nobody has loaded yet
    with database.transaction() as session:
        assert last_reload(session, BOT) == Reload(0.25, 7.0)
    note(12, "checkpoint.reloaded", "by-hand", before="new", seconds=0.5)
    with database.transaction() as session:
        assert last_reload(session, BOT) == Reload(0.5, None)
