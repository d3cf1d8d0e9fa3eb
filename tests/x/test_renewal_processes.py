"""Renewal by real processes against a sandbox in another: eight at once, and one that is killed in the middle of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from oauth2_world import BOT, USER, oauth2_secrets, pair_of
from sandbox_server import WORLD, Server
from sqlalchemy import select, update

from app.clock import WorldClock
from app.x.renewal import LEASE
from app.x.tokens import TokenStore
from dbs.models import Bot, Event, Lease, OAuth2Tokens
from dbs.session import Database

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture
def server(tmp_path: Path, database: Database, bot: Bot, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A sandbox in which the bot logged in three hours ago."""
    server = Server(tmp_path / "state", clock=WorldClock(datetime.now(UTC), WORLD, 1.0).setting()).start()
    try:
        pair = pair_of(server.control("authorize", {}))
        monkeypatch.setenv("EXPLORER_CLOCK", server.clock)
        secret = oauth2_secrets(server.base_url).x_client_secret
        assert secret is not None
        TokenStore(database, BOT, USER, secret).save(pair)
        server.kill()
        server.clock = WorldClock(datetime.now(UTC), WORLD + timedelta(hours=3), 1.0).setting()
        monkeypatch.setenv("EXPLORER_CLOCK", server.clock)
        yield server.start()
    finally:
        server.kill()


def ask(server: Server, database_url: str, gate: Path, count: int = 1, death: str = "") -> list[tuple[int, str]]:
    """So many processes at once; for each its exit status and the last line that it printed, below its log."""
    gate.unlink(missing_ok=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, HERE)))}
    command = [sys.executable, str(HERE / "renewing_process.py"), database_url, server.base_url, str(gate)]
    processes = [
        subprocess.Popen([*command, *filter(None, [death])], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    deadline = time.monotonic() + 60
    while not all(gate.with_name(f"{gate.name}.{process.pid}").exists() for process in processes):
        assert time.monotonic() < deadline, "the processes did not begin"
        time.sleep(0.01)
    gate.touch()
    printed = [process.communicate(timeout=60)[0].splitlines() for process in processes]
    return [(process.returncode, lines[-1] if lines else "") for process, lines in zip(processes, printed, strict=True)]


def asked_for_tokens(server: Server) -> int:
    return int(server.control("summary")["calls"].get("POST /2/oauth2/token", 0))


def let_the_lease_run_out(database: Database) -> None:
    with database.transaction() as session:
        held = update(Lease).where(Lease.bot_id == BOT, Lease.name == LEASE)
        assert session.execute(held.values(expires_at=datetime.now(UTC)).returning(Lease.name)).all()


def test_eight_processes_renew_once_and_all_go_on(
    server: Server, database: Database, database_url: str, tmp_path: Path
) -> None:
    assert ask(server, database_url, tmp_path / "gate", count=8) == [(0, USER)] * 8
    assert asked_for_tokens(server) == 1
    # The family lives: what was stored is renewed in its turn.
    with database.transaction() as session:
        row = session.get_one(OAuth2Tokens, BOT)
        row.obtained_at, row.expires_at = (at - timedelta(hours=3) for at in (row.obtained_at, row.expires_at))
    assert ask(server, database_url, tmp_path / "gate") == [(0, USER)]
    assert asked_for_tokens(server) == 2


def test_who_dies_before_it_asks_costs_nothing(
    server: Server, database: Database, database_url: str, tmp_path: Path
) -> None:
    assert ask(server, database_url, tmp_path / "gate", death="die_before") == [(-9, "")]
    assert asked_for_tokens(server) == 0
    let_the_lease_run_out(database)
    assert ask(server, database_url, tmp_path / "gate", count=2) == [(0, USER)] * 2
    assert asked_for_tokens(server) == 1


def test_who_dies_with_the_answer_takes_the_login_with_it_and_that_is_said_once(
    server: Server, database: Database, database_url: str, tmp_path: Path
) -> None:
    assert ask(server, database_url, tmp_path / "gate", death="die_after") == [(-9, "")]
    let_the_lease_run_out(database)
    for _ in range(2):
        for code, said in ask(server, database_url, tmp_path / "gate", count=2):
            assert code == 0
            assert said.startswith("Unauthorized: ")
            assert said.endswith("run `explorer login`")
    assert asked_for_tokens(server) == 2
    with database.transaction() as session:
        lost = session.scalars(select(Event).where(Event.kind == "login.lost")).all()
    assert len(lost) == 1
