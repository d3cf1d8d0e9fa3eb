"""The whole bot as it really runs: embedded servers, a sandbox, beat, two I/O workers and the GPU service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select
from waiting import wait_for

from app.local.observer import Observer, duplicates
from app.local.report import audit, count
from app.local.sandboxed import BOT_ID, config_writer, time_lapse_config
from app.local.serving import serving
from app.local.stack import SandboxOptions, Stack, running_stack
from app.policy import registry
from dbs.models import Draft, Event, Loop, TrainingRun
from dbs.session import Database
from dbs.states import RunState

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, packaged_model: Path) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("stack")
    config_file = directory / "explorer.yaml"

    config = time_lapse_config(directory, packaged_model)
    # The least that the gate of the demo has evidence for, so that a run comes soon and is short.
    config["ppo"] |= {"min_samples": 40, "max_samples": 48}
    write_config = config_writer(config, config_file)
    before, others = Path.cwd(), children()
    os.chdir(directory)  # where another terminal would look for the running stack
    try:
        with running_stack(
            directory, config_file, sandbox=SandboxOptions(speed=480), before_bot=write_config
        ) as running:
            yield running
    finally:
        os.chdir(before)
    assert not [command for pid, command in children().items() if pid not in others]


def children() -> dict[int, str]:
    """What this process has started and what that started, by process id; servers of other tests are among them."""
    found = [process for process in psutil.Process().children(recursive=True) if process.is_running()]
    commands = {process.pid: " ".join(process.cmdline()) for process in found}
    return {pid: command for pid, command in commands.items() if "resource_tracker" not in command}


@pytest.fixture(scope="module")
def db(stack: Stack) -> Iterator[Database]:
    database = Database(stack.env["DATABASE_URL"])
    yield database
    database.close()


def celery(*arguments: str) -> str:
    """Run `celery -A app …` as another terminal would: with no variable set."""
    env = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    command = [sys.executable, "-m", "celery", "-A", "app", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=env, timeout=60).stdout


def explorer(*arguments: str) -> str:
    """Run `explorer …` as another terminal would."""
    env = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    command = [str(Path(sys.executable).parent / "explorer"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=env, timeout=60).stdout


def test_the_loop_posts_and_measures(stack: Stack, db: Database) -> None:
    def posted_and_measured() -> bool:
        with db.transaction() as session:
            counts = count(session, BOT_ID)
        return counts.followed >= 5 and counts.posted >= 3 and counts.measured_twice >= 1

    wait_for(stack, "measured post", 300, posted_and_measured)


def test_each_queue_is_consumed_where_it_belongs(stack: Stack) -> None:
    replies = json.loads(celery("inspect", "active_queues", "--json", "--timeout", "5"))
    # Each also has a queue of its own, which a health check asks it through.
    queues = {
        node.split("@")[0]: sorted(queue["name"] for queue in found if node not in queue["name"])
        for node, found in replies.items()
    }
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


def test_it_learns_is_reloaded_and_rolled_back_while_it_runs(stack: Stack, db: Database) -> None:
    def is_training() -> bool:
        with db.transaction() as session:
            return bool(session.query(TrainingRun).filter_by(state=RunState.RUNNING).count())

    wait_for(stack, "training run", 400, is_training)
    # Both nodes are at work now: one writes, the other trains.
    answers = json.loads(celery("inspect", "checkpoint", "--json", "--timeout", "10"))
    assert {node.split("@")[0] for node in answers} == {"io-1", "io-2", "generation", "training"}
    assert "swaps before the next batch" in celery("control", "reload_checkpoint", "--timeout", "10")

    with db.transaction() as session:
        base = registry.current(session, BOT_ID).checkpoint_id

    def promoted() -> bool:
        with db.transaction() as session:
            return registry.current(session, BOT_ID).checkpoint_id != base

    wait_for(stack, "promotion", 600, promoted)

    def written_by_the_new_one() -> bool:
        with db.transaction() as session:
            new = registry.current(session, BOT_ID).checkpoint_id
            return bool(session.query(Draft).filter_by(checkpoint_id=new).count())

    wait_for(stack, "draft of the new checkpoint", 120, written_by_the_new_one)
    with db.transaction() as session:
        parent = registry.current(session, BOT_ID).parent_id
    explorer("checkpoints", "rollback")
    with db.transaction() as session:
        assert registry.current(session, BOT_ID).checkpoint_id == parent
        begun = session.query(Event).filter_by(kind="checkpoint.rolled_back").one().at

    def written_by_the_parent() -> bool:
        with db.transaction() as session:
            batches = session.query(Event).filter(Event.kind == "batch.written", Event.at > begun)
            return str(parent) in {batch.subject for batch in batches}

    wait_for(stack, "batch of the parent", 120, written_by_the_parent)
    with db.transaction() as session:
        served = serving(session, BOT_ID)
    assert (served["late_batches"], served["failed_generation_turns"]) == (0, 0)


def test_the_record_and_our_rows_agree(stack: Stack, db: Database) -> None:
    observer = Observer(stack.env["X_BASE_URL"])

    def agree() -> bool:
        # A post that is on its way is in one of the two only for a moment.
        with db.transaction() as session:
            return not audit(session, BOT_ID, observer).differences

    wait_for(stack, "agreement", 60, agree)
