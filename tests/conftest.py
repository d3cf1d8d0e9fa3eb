"""Real servers for the tests: one PostgreSQL and one Redis per run, a fresh migrated database per test."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings
from s3_server import Bucket, S3Server
from scripted_x import ScriptedX
from sqlalchemy import create_engine, text

from app import clock
from app.config import PersonaConfig, SafetyConfig, VibeBotConfig
from app.local.servers import EmbeddedPostgres, EmbeddedRedis
from dbs.migrations import upgrade
from dbs.models import Bot
from dbs.session import Database

ROOT = Path(__file__).parents[1]
TEMPLATE = "explorer_template"

# Shared machines are slow now and then; a slow draw is not what these tests are about.
settings.register_profile("explorer", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("explorer")

# A test that forgets to say where it works must fail, and not meet a stack that happens to run here.
os.environ |= {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "REDIS_URL": "redis://127.0.0.1:1/0"}
os.environ |= {"X_BASE_URL": "http://127.0.0.1:1", "EXPLORER_CLOCK": "wall", "X_CLIENT_ID": "", "X_CLIENT_SECRET": ""}


@pytest.fixture(scope="module", autouse=True)
def _own_environment() -> Iterator[None]:
    """What a file's tests adopt from a stack that they run (`app/environment.py`) does not reach the next file's, nor
    does a log (`app/logs.py`) into a stream that pytest has closed by then.
    """
    before, root = dict(os.environ), logging.getLogger()
    yield
    os.environ.clear()
    os.environ.update(before)
    root.handlers = [it for it in root.handlers if not isinstance(it.formatter, structlog.stdlib.ProcessorFormatter)]


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(tmp_path_factory.mktemp("servers") / "postgres")
    upgrade(server.start(TEMPLATE))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = EmbeddedRedis(tmp_path_factory.mktemp("servers") / "redis")
    yield server.start()
    server.stop()


@pytest.fixture
def database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A fresh database with the whole schema, as a copy of a migrated template."""
    name = f"test_{uuid.uuid4().hex}"
    admin = create_engine(postgres.url("postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}"))
    yield postgres.url(name)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url, pool_size=10)
    yield database
    database.close()


@pytest.fixture
def bot(database: Database) -> Bot:
    """The row of the bot under test."""
    row = Bot(bot_id="explorer", user_id="1000001", handle="explorer_bot", created_at=clock.now())
    with database.transaction() as session:
        session.add(row)
    return row


@pytest.fixture
def x() -> Iterator[ScriptedX]:
    """An X that answers as a test tells it to."""
    server = ScriptedX()
    yield server
    server.close()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def config(data_dir: Path) -> VibeBotConfig:
    """A config of the bot under test, which may post to whatever X it is pointed at."""
    return VibeBotConfig(
        user_id="1000001",
        accounts_to_follow=["alice", "bob"],
        persona=PersonaConfig(name="Explorer", description="A test.", tone="plain", interests=["astronomy"]),
        safety=SafetyConfig(min_pause=0),
        live=True,
        data_dir=str(data_dir),
    )


@pytest.fixture(scope="session")
def packaged_model() -> Path:
    """SmolLM2-135M-Instruct from the package index, converted once per checkout and shared with the demo."""
    directory = (ROOT / "data/models/smollm2-135m-instruct").resolve()
    # In a process of its own, so that the tests' own process stays without torch until a test needs it.
    subprocess.run([sys.executable, "-m", "app.policy.packaged", str(directory)], check=True)
    return directory


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A bucket of this test's own, and its credentials in the environment."""
    new = s3_server.new_bucket()
    for name, value in new.env.items():
        monkeypatch.setenv(name, value)
    return new


@pytest.fixture(params=["file", "memory", "s3"])
def shared_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A URL of each kind of store: a mounted volume, memory (of one process), and S3 over HTTP."""
    if request.param == "s3":
        return str(request.getfixturevalue("bucket").url)
    return f"file://{tmp_path / 'volume'}" if request.param == "file" else f"memory://{uuid.uuid4().hex}/explorer"
