"""Which runs a turn of learning starts, and in which order."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from factories import BOT, give_checkpoint, give_draft, give_offer, give_persona

from app import clock
from app.config import DPOConfig, PPOConfig, VibeBotConfig
from app.leases import TRAINING_LEASE, hold
from app.tasks import training
from dbs.models import Bot, Checkpoint, Preference
from dbs.session import Database
from dbs.states import DraftState


@pytest.fixture
def config(config: VibeBotConfig) -> VibeBotConfig:
    return config.model_copy(update={"dpo": DPOConfig(min_pairs=2), "ppo": PPOConfig(min_samples=2)})


@pytest.fixture
def checkpoint(database: Database, bot: Bot) -> Checkpoint:
    with database.transaction() as session:
        give_persona(session)
        return give_checkpoint(session)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(training.app, "send_task", found.append)
    return found


def choose(database: Database, checkpoint: Checkpoint, number: int) -> None:
    with database.transaction() as session:
        one, other = give_offer(session, checkpoint, str(number), f"One of {number}.", f"Other of {number}.")
        session.add(Preference(
            bot_id=BOT, target_post_id=str(number), chosen_draft_id=one.draft_id, rejected_draft_id=other.draft_id,
            chosen_by="console", chosen_at=clock.wall_now(),
        ))  # fmt: skip


def refuse(database: Database, checkpoint: Checkpoint, count: int, rule: str = "link") -> None:
    with database.transaction() as session:
        for number in range(count):
            give_draft(session, checkpoint, f"Refused {rule} {number}.", state=DraftState.REJECTED, reject_rule=rule)


def start(database: Database, config: VibeBotConfig) -> int:
    return training._start_if_worth_it(SimpleNamespace(db=database, config=config))


def test_nothing_starts_without_enough(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint, sent: list[str]
) -> None:
    choose(database, checkpoint, 1)
    refuse(database, checkpoint, 2)
    refuse(database, checkpoint, 9, rule="not_chosen")  # says nothing of a text, and earns no reward
    assert start(database, config) == 0
    assert sent == []


def test_choices_start_first_and_each_starts_alone(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint, sent: list[str]
) -> None:
    choose(database, checkpoint, 1)
    choose(database, checkpoint, 2)
    assert start(database, config) == 1
    refuse(database, checkpoint, 9)
    assert start(database, config) == 2
    with hold(database, BOT, TRAINING_LEASE, 60):
        assert start(database, config) == 0
    assert sent == ["app.tasks.dpo", "app.tasks.dpo", "app.tasks.ppo"]
