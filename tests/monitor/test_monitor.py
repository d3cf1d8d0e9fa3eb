"""The monitor on a real database, a real broker, a real webhook and a real mail server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from email.message import Message as Mail
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MailHandler
from celery_broker import point_at
from factories import BOT, give_checkpoint, give_draft, give_persona
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr, ValidationError

from app import clock, events, loops
from app.celery import app as celery_app
from app.config import Secrets, VibeBotConfig
from app.local.servers import free_port
from app.monitor.alarms import Alarm
from app.monitor.notify import Herald, Message, NotToldError, by_mail, by_webhook, channels
from app.monitor.observation import observe
from app.monitor.service import Monitor
from app.posting import queue_drafts
from app.schedule import LoopName
from dbs.models import Bot, Checkpoint, LedgerEntry, Loop, Post, TrainingRun
from dbs.session import Database
from dbs.states import PostState, RunKind, RunState
from workers.health import Unhealthy, check_monitor

STOPPED = Alarm("stopped", "the bot was stopped: by hand")


class Hook(HTTPServer):
    """A webhook that keeps what it is sent, and answers with `status`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _HookHandler)
        self.status, self.bodies = 204, list[dict[str, Any]]()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> SecretStr:
        return SecretStr(f"http://127.0.0.1:{self.server_port}/services/a-secret-path")


class _HookHandler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.status < 400:
            self.server.bodies.append(body)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: pytest shows what failed."""


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def broker(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty broker: what other tests have sent and nobody took is gone."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    point_at(redis_url, monkeypatch)


@pytest.fixture
def checkpoint(database: Database, bot: Bot, config: VibeBotConfig) -> Checkpoint:
    with database.transaction() as session:
        give_persona(session)
        loops.ensure(session, config)
        return give_checkpoint(session)


def change(database: Database, row: type[Any], **values: Any) -> None:
    with database.transaction() as session:
        for found in session.query(row):
            for name, value in values.items():
                setattr(found, name, value)


def test_it_sees_what_is_there(database: Database, config: VibeBotConfig, checkpoint: Checkpoint, broker: None) -> None:
    now = clock.now()
    with database.transaction() as session:
        give_draft(session, checkpoint, "A text that waits.")
        for cost, reserved in ((0.25, 0.5), (None, 0.75)):
            session.add(LedgerEntry(bot_id=BOT, endpoint="GET /2/tweets", at=now, reserved_usd=reserved, cost_usd=cost,
                                    outcome="ok" if cost else None))  # fmt: skip
        for minute, state in enumerate((RunState.SUCCEEDED, RunState.FAILED, RunState.FAILED)):
            session.add(TrainingRun(bot_id=BOT, kind=RunKind.PPO, state=state, fence=1,
                                    started_at=now + timedelta(minutes=minute)))  # fmt: skip
        events.record(session, BOT, "batch.written", drafts=3, tokens=90, seconds=4.5)
        events.record(session, BOT, "batch.written", drafts=1, tokens=30, seconds=1.5)
    queue_drafts(database, config)
    change(database, Post, due_at=now - timedelta(minutes=20))
    change(database, Loop, next_due_at=now - timedelta(minutes=30))
    with database.transaction() as session:
        loops.pause(session, BOT, "a test", [LoopName.PPO])
    seen = observe(database, config)
    assert seen.posts["queued"] == 1
    assert seen.posts["failed"] == 0
    assert seen.drafts["used"] == 1
    assert seen.backlog["send"].oldest == pytest.approx(1200, abs=30)
    assert (seen.spent_day, seen.spent_month) == (1.0, 1.0)
    assert seen.requests == {("GET /2/tweets", "ok"): 1}
    assert (seen.failures, seen.refusals, seen.training) == (2, 0, False)
    assert (seen.batches.drafts, seen.batches.tokens, seen.batches.seconds) == (4, 120, 6.0)
    assert seen.served is not None
    assert seen.served.checkpoint_id == str(checkpoint.checkpoint_id)
    late = {loop.name: loop.late for loop in seen.loops}
    assert late["ppo"] == 0
    assert late["timeline"] == pytest.approx(1800, abs=30)
    assert seen.queues is not None
    assert set(seen.queues.values()) == {0}


def test_it_counts_what_waits_at_the_broker(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint, broker: None
) -> None:
    with celery_app.connection_for_write() as connection:
        producer = connection.SimpleQueue("engagement")
        for _ in range(3):
            producer.put({"a": "message"})
        try:
            seen = observe(database, config)
        finally:
            producer.clear()
            producer.close()
    assert seen.queues is not None
    assert seen.queues["engagement"] == 3
    assert seen.queues["timeline"] == 0


def test_a_broker_that_is_away_is_seen(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at(f"redis://127.0.0.1:{free_port()}/0", monkeypatch)
    assert observe(database, config).queues is None


def test_a_lost_post_is_one_that_two_looks_did_not_find(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint, broker: None
) -> None:
    with database.transaction() as session:
        give_draft(session, checkpoint, "Nobody knows whether this is out.")
    queue_drafts(database, config)
    change(database, Post, state=PostState.UNCONFIRMED, attempts=2, absent_reads=1)
    assert observe(database, config).lost == 0
    change(database, Post, absent_reads=2)
    assert observe(database, config).lost == 1


def test_prometheus_can_read_every_metric(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint, broker: None
) -> None:
    monitor = Monitor(database, config, [])
    change(database, Bot, stopped_at=clock.wall_now(), stop_reason="by hand")
    monitor.look()
    families = {
        family.name: family for family in text_string_to_metric_families(generate_latest(monitor.registry).decode())
    }
    assert all(name.startswith(("explorer_", "process_")) for name in families)
    assert families["process_resident_memory_bytes"].samples[0].value > 1e6, "of the monitor itself"
    standing = {sample.labels["alarm"]: sample.value for sample in families["explorer_alarm"].samples}
    assert standing["stopped"] == 1
    assert standing["database"] == 0
    assert {sample.labels["loop"] for sample in families["explorer_loop_late_seconds"].samples} == set(LoopName)
    assert families["explorer_broker_up"].samples[0].value == 1


def test_a_database_that_is_away_is_an_alarm_and_no_end(config: VibeBotConfig) -> None:
    nowhere = Database(f"postgresql+psycopg2://nobody@127.0.0.1:{free_port()}/none", connect_seconds=2)
    monitor = Monitor(nowhere, config, [])
    assert [alarm.name for alarm in monitor.look()] == ["database"]
    metrics = generate_latest(monitor.registry).decode()
    assert 'explorer_alarm{alarm="database"} 1.0' in metrics


def test_an_alarm_is_told_once_and_so_is_its_end(hook: Hook) -> None:
    herald = Herald(BOT, [lambda message: by_webhook(hook.url, message)])
    for found in ([STOPPED], [STOPPED], [], [], [STOPPED]):
        herald.tell(found)
    assert [(body["alarm"], body["raised"]) for body in hook.bodies] == [
        ("stopped", True), ("stopped", False), ("stopped", True),
    ]  # fmt: skip
    assert hook.bodies[0]["text"] == hook.bodies[0]["content"] == "[explorer] stopped: the bot was stopped: by hand"
    assert hook.bodies[1]["text"] == "[explorer] stopped: over: the bot was stopped: by hand"


def test_what_could_not_be_told_is_told_later_and_other_channels_do_not_wait(hook: Hook) -> None:
    others: list[Message] = []
    herald = Herald(BOT, [lambda message: by_webhook(hook.url, message), others.append])
    hook.status = 500
    herald.tell([STOPPED])
    assert hook.bodies == []
    assert len(others) == 1
    hook.status = 200
    herald.tell([STOPPED])
    assert [body["raised"] for body in hook.bodies] == [True]
    assert len(others) == 1


def test_no_error_holds_the_address_which_is_a_secret(hook: Hook) -> None:
    hook.status = 403
    for url in (hook.url, SecretStr(f"http://127.0.0.1:{free_port()}/services/a-secret-path")):
        with pytest.raises(NotToldError) as raised:
            by_webhook(url, Message(BOT, STOPPED, raised=True))
        assert "a-secret-path" not in str(raised.value)
        assert raised.value.__cause__ is None


class Inbox(MailHandler):
    """Keeps what arrives."""

    def __init__(self) -> None:
        super().__init__()
        self.mails: list[Mail] = []

    def handle_message(self, message: Mail) -> None:
        self.mails.append(message)


def test_a_mail_arrives() -> None:
    inbox, port = Inbox(), free_port()
    server = Controller(inbox, hostname="127.0.0.1", port=port)
    server.start()
    try:
        by_mail(SecretStr(f"smtp://127.0.0.1:{port}?from=bot@example.org&to=me@example.org"),
                Message(BOT, STOPPED, raised=True))  # fmt: skip
    finally:
        server.stop()
    (mail,) = inbox.mails
    assert (mail["From"], mail["To"]) == ("bot@example.org", "me@example.org")
    assert mail["Subject"] == "[explorer] stopped: the bot was stopped: by hand"
    with pytest.raises(NotToldError, match="ALERT_MAIL_URL: "):
        by_mail(SecretStr(f"smtp://127.0.0.1:{port}?from=a&to=b"), Message(BOT, STOPPED, raised=True))


@pytest.mark.parametrize(
    "wrong",
    [
        {"alert_webhook_url": "hooks.example.org"},
        {"alert_mail_url": "smtp://mail.example.org:587"},
        {"alert_mail_url": "mail.example.org"},
    ],
)
def test_an_address_that_cannot_be_used_is_refused_at_once(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Secrets(**wrong)  # type: ignore[arg-type]


def test_an_empty_address_is_none() -> None:
    assert channels(Secrets(alert_webhook_url="", alert_mail_url="")) == []  # type: ignore[arg-type]


def test_the_command_serves_until_it_is_stopped_and_its_health_is_checked(
    database_url: str, redis_url: str, hook: Hook, tmp_path: Path
) -> None:
    settings = {
        "user_id": "1000001", "accounts_to_follow": ["a"], "monitor": {"interval": 1, "late_after": 0.01},
        "persona": {"name": "E", "description": "d", "tone": "t", "interests": ["i"]},
    }  # fmt: skip
    (tmp_path / "explorer.yaml").write_text(yaml.safe_dump(settings))
    env = {
        **os.environ,
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "ALERT_WEBHOOK_URL": hook.url.get_secret_value(),
        "EXPLORER_CONFIG": str(tmp_path / "explorer.yaml"),
    }
    port = free_port()
    with pytest.raises(Unhealthy, match="does not answer"):
        check_monitor(port)
    command = [sys.executable, "-m", "app.cli", "monitor", "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        # Nobody takes this bot's turns: soon all are late.
        deadline = time.monotonic() + 60
        while not hook.bodies and time.monotonic() < deadline:
            time.sleep(0.2)
        assert hook.bodies[0]["alarm"] == "stuck", (tmp_path / "log").read_text()
        check_monitor(port)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            assert 'explorer_alarm{alarm="stuck"} 1.0' in answer.read().decode()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    once = subprocess.run([*command[:4], "--once"], env=env, capture_output=True, text=True, check=False)
    assert once.returncode == 1
    assert "turns that nobody takes: community" in once.stdout
