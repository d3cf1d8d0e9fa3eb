"""The whole bot as it really runs: embedded servers, a sandbox, beat, two I/O workers and the GPU service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from app.local.demo import demo_config
from app.local.observer import Observer, duplicates
from app.local.report import audit, count
from app.local.sandboxed import BOT_ID, config_writer
from app.local.stack import SandboxOptions, Stack, running_stack
from dbs.session import Database

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, packaged_model: Path) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("stack")
    config_file = directory / "explorer.yaml"

    write_config = config_writer(demo_config(directory, packaged_model), config_file)
    before = Path.cwd()
    os.chdir(directory)  # where another terminal would look for the running stack
    try:
        with running_stack(
            directory, config_file, sandbox=SandboxOptions(speed=240), before_bot=write_config
        ) as running:
            yield running
    finally:
        os.chdir(before)
    left = [process.cmdline() for process in psutil.Process().children(recursive=True) if process.is_running()]
    assert not [command for command in left if "resource_tracker" not in " ".join(command)]


@pytest.fixture(scope="module")
def db(stack: Stack) -> Iterator[Database]:
    database = Database(stack.env["DATABASE_URL"])
    yield database
    database.close()


def wait_for(stack: Stack, what: str, seconds: float, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"no {what} within {seconds:.0f} s; logs in {stack.directory / 'logs'}"
        stack.tend()
        time.sleep(0.5)


def celery(*arguments: str) -> str:
    """Run `celery -A app …` as another terminal would: with no variable set."""
    env = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    command = [sys.executable, "-m", "celery", "-A", "app", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=env, timeout=60).stdout


def test_the_loop_posts_and_measures(stack: Stack, db: Database) -> None:
    def posted_and_measured() -> bool:
        with db.transaction() as session:
            counts = count(session, BOT_ID)
        return counts.followed >= 5 and counts.posted >= 3 and counts.measured_twice >= 1

    wait_for(stack, "measured post", 300, posted_and_measured)


def test_each_queue_is_consumed_where_it_belongs(stack: Stack) -> None:
    replies = json.loads(celery("inspect", "active_queues", "--json", "--timeout", "5"))
    queues = {node.split("@")[0]: sorted(queue["name"] for queue in found) for node, found in replies.items()}
    io = ["engagement", "publishing", "timeline", "upkeep"]
    assert queues == {"io-1": io, "io-2": io, "generation": ["generation"], "training": ["training"]}


def test_control_commands_answer_by_hand(stack: Stack) -> None:
    answers = json.loads(celery("inspect", "checkpoint", "--json", "--timeout", "5"))
    assert len(answers) == 4
    assert not [answer for answer in answers.values() if "error" in answer]
    (generation,) = [answer for node, answer in answers.items() if node.startswith("generation@")]
    assert generation["serving"] == generation["current"] is not None
    assert "swaps before the next batch" in celery("control", "reload_checkpoint", "--timeout", "5")


def test_a_turn_can_be_called_by_hand(stack: Stack, db: Database) -> None:
    from sqlalchemy import select

    from dbs.models import Loop

    def turns() -> int:
        with db.transaction() as session:
            return session.scalars(select(Loop.turns).where(Loop.loop == "community")).one()

    before = turns()
    celery("call", "app.tasks.community")
    wait_for(stack, "turn", 30, lambda: turns() > before)


def test_a_killed_worker_comes_back_and_nothing_is_twice(stack: Stack, db: Database) -> None:
    supervisor = stack.supervisors[-1]
    victims = {name: supervisor.pids()[name] for name in ("io-1", "beat")}
    for pid in victims.values():
        os.killpg(pid, signal.SIGKILL)
    wait_for(
        stack,
        "restart",
        60,
        lambda: all(supervisor.pids().get(name) not in {None, pid} for name, pid in victims.items()),
    )
    with db.transaction() as session:
        already = count(session, BOT_ID).posted

    def posted_more() -> bool:
        with db.transaction() as session:
            return count(session, BOT_ID).posted > already

    wait_for(stack, "further post", 180, posted_more)
    observer = Observer(stack.env["X_BASE_URL"])
    assert duplicates(observer.writes()) == 0


def test_the_record_and_our_rows_agree(stack: Stack, db: Database) -> None:
    observer = Observer(stack.env["X_BASE_URL"])

    def agree() -> bool:
        # A post that is on its way is in one of the two only for a moment.
        with db.transaction() as session:
            return not audit(session, BOT_ID, observer).differences

    wait_for(stack, "agreement", 60, agree)
