"""A console that is served, and a bot behind it in approval mode."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from celery_broker import point_at
from console_life import PASSWORD
from factories import give_checkpoint, give_persona

from app import loops
from app.config import SafetyConfig, VibeBotConfig
from app.console.server import create
from app.context import BotContext
from app.local.servers import free_port
from dbs.models import Bot, Checkpoint
from dbs.session import Database


@pytest.fixture
def config(config: VibeBotConfig) -> VibeBotConfig:
    return config.model_copy(update={"safety": SafetyConfig(approval=True, min_pause=0)})


@pytest.fixture
def checkpoint(database: Database, bot: Bot, config: VibeBotConfig) -> Checkpoint:
    with database.transaction() as session:
        give_persona(session)
        loops.ensure(session, config)
        return give_checkpoint(session)


@pytest.fixture
def url(
    config: VibeBotConfig, database: Database, checkpoint: Checkpoint, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    point_at(redis_url, monkeypatch)
    port = free_port()
    app = create(BotContext(config, db=database), PASSWORD)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()
