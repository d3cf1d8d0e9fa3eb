"""A turn of measuring with more posts than fit a request: two real I/O workers read the batches side by side."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from factories import BOT, give_checkpoint, give_draft, give_persona
from scripted_x import CANARIES, Reply, Request, ScriptedX
from sqlalchemy import func, select
from waiting import becomes

from app import clock, loops
from app.config import VibeBotConfig
from app.local.servers import EmbeddedRedis
from app.measuring import further_batches
from dbs.models import Bot, Engagement, Post
from dbs.session import Database
from dbs.states import Kind, PostState
from workers.supervisor import Service, Supervisor

POSTS = 450
ANSWER_SECONDS = 0.5


class SlowX:
    """Takes its time over each look-up, and keeps how many it has had at once."""

    def __init__(self, x: ScriptedX) -> None:
        self.most, self._now, self._lock = 0, 0, threading.Lock()
        x.otherwise = self.answer

    def answer(self, request: Request) -> Reply:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(ANSWER_SECONDS)
        with self._lock:
            self._now -= 1
        counts = {"like_count": 1, "retweet_count": 0, "quote_count": 0, "reply_count": 0}
        return Reply(body={"data": [{"id": i, "public_metrics": counts} for i in request.query["ids"].split(",")]})


@pytest.fixture
def due(database: Database, bot: Bot, config: VibeBotConfig) -> None:
    now = clock.now()
    with database.transaction() as session:
        give_persona(session)
        loops.ensure(session, config)
        checkpoint = give_checkpoint(session)
        for i in range(POSTS):
            content = f"Post number {i} of the comet's night."
            draft = give_draft(session, checkpoint, content)
            session.add(Post(
                bot_id=BOT, content_gen_prompt="Write.", content=content, is_reply=False, kind=Kind.POST,
                draft_id=draft.draft_id, checkpoint_id=checkpoint.checkpoint_id, persona_version=1,
                text_hash=uuid.uuid4().hex, state=PostState.POSTED, x_post_id=str(10_000 + i),
                queued_at=now, due_at=now, post_time=now - timedelta(minutes=20), next_measure_at=now,
            ))  # fmt: skip


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A broker of this test's own: these workers would carry out whatever other tests have left in theirs."""
    server = EmbeddedRedis(tmp_path / "redis")
    yield server.start()
    server.stop()


@pytest.fixture
def env(tmp_path: Path, config: VibeBotConfig, database_url: str, redis_url: str, x: ScriptedX) -> dict[str, str]:
    file = tmp_path / "explorer.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    places = {"EXPLORER_CONFIG": str(file), "DATABASE_URL": database_url, "REDIS_URL": redis_url, "X_BASE_URL": x.url}
    return places | {name.upper(): value for name, value in CANARIES.items()}


@pytest.fixture
def workers(tmp_path: Path, env: dict[str, str]) -> Iterator[Supervisor]:
    """Two I/O workers that consume their queues."""
    names = ["io-1", "io-2"]
    services = [Service(name, [sys.executable, "-m", "workers.io", "--name", name], env=env) for name in names]
    supervisor = Supervisor(services, log_dir=tmp_path / "logs")
    supervisor.start()
    try:
        assert becomes(supervisor, 60, lambda: run(env, "workers.health", *names) == 0)
        yield supervisor
    finally:
        supervisor.stop()


def run(env: dict[str, str], *arguments: str) -> int:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, env=os.environ | env, capture_output=True, check=False).returncode


def test_the_workers_share_a_turn(
    database: Database, config: VibeBotConfig, due: None, x: ScriptedX, env: dict[str, str], workers: Supervisor
) -> None:
    slow = SlowX(x)
    assert further_batches(database, config) == 4
    assert run(env, "celery", "-A", "app", "call", "app.tasks.engagement") == 0

    def measured() -> int:
        with database.transaction() as session:
            return session.scalars(select(func.count()).select_from(Engagement)).one()

    assert becomes(workers, 60, lambda: measured() == POSTS)
    # More than one thread of one worker could have had, were a turn one worker's alone.
    assert slow.most >= 3
    asked = [x_post_id for request in x.requests for x_post_id in request.query["ids"].split(",")]
    assert len(asked) == len(set(asked)) == POSTS
    with database.transaction() as session:
        assert session.scalars(select(func.count(Engagement.post_id.distinct()))).one() == POSTS
    assert further_batches(database, config) == 0
