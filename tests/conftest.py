"""Real servers for the tests: one PostgreSQL and one Redis per run, a fresh migrated database per test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from app import clock
from app.local.servers import EmbeddedPostgres, EmbeddedRedis
from dbs.migrations import upgrade
from dbs.models import Bot
from dbs.session import Database

TEMPLATE = "explorer_template"


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
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"
