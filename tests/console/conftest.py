"""A console that is served, and a bot behind it in approval mode."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from celery_broker import point_at
from console_life import PASSWORD, Browser
from factories import give_checkpoint, give_persona
from sandbox_server import Server

from app import clock, loops
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


@pytest.fixture
def browser(url: str) -> Browser:
    browser = Browser(url)
    assert browser.sign_in().status_code == 200
    return browser


@pytest.fixture
def self_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """An X that takes unsummoned replies from persons only, and whose time is the test's."""
    server = Server(tmp_path / "sandbox", options=("--tier", "pay-per-use")).start()
    monkeypatch.setenv(clock.VARIABLE, server.clock)
    monkeypatch.setenv("X_BASE_URL", server.base_url)
    yield server
    server.kill()


@pytest.fixture
def copilot_config(config: VibeBotConfig, self_serve: Server) -> VibeBotConfig:
    """Of a bot that lives in that X: whoever makes a console of it has asked for the X first."""
    return config.model_copy(update={"safety": SafetyConfig(copilot=True, min_pause=0)})
