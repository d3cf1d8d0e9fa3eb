"""A bot in co-pilot mode that has a checkpoint, and an X that it reads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from factories import give_checkpoint, give_persona
from scripted_x import CANARIES, ScriptedX

from app.config import SafetyConfig, Secrets, VibeBotConfig
from app.x_interactor import XInteractor
from dbs.models import Bot, Checkpoint
from dbs.session import Database


@pytest.fixture
def config(config: VibeBotConfig) -> VibeBotConfig:
    return config.model_copy(update={"safety": SafetyConfig(copilot=True, min_pause=0)})


@pytest.fixture
def checkpoint(database: Database, bot: Bot) -> Checkpoint:
    with database.transaction() as session:
        give_persona(session)
        return give_checkpoint(session)


@pytest.fixture
def interactor(x: ScriptedX) -> Iterator[XInteractor]:
    client = XInteractor("1000001", live=True, secrets=Secrets(**CANARIES, x_base_url=x.url), timeout=2.0)
    yield client
    client.close()
