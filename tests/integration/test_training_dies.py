"""A run that dies on the real workers: by its memory limit, and by the kernel's hand; generation never feels it."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from celery import Celery
from factories import give_seen
from policy.tiny_model import save_tiny_model
from sqlalchemy import func, select, update

from app import clock
from app.policy import checkpoints
from dbs.models import Bot, Draft, Event, Lease, TrainingRun
from dbs.session import Database
from dbs.states import RunState
from tests.learning.life import live, with_ppo
from tests.learning.world import World, config
from workers.supervisor import Service, Supervisor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# So many rows in the output layer that a large micro-batch has a gigabyte of logits, while the model stays tiny.
EXTRA_ROWS = 300_000
TICK_DONE = "Task app.tasks.ppo_due"  # as Celery logs it when a task has ended


@dataclass
class Workers:
    """The GPU service, an I/O worker, and what a person can see of them."""

    world: World
    supervisor: Supervisor
    celery: Celery
    file: Path
    settings: Any

    @property
    def database(self) -> Database:
        return self.world.database

    def configure(self, **ppo: Any) -> None:
        """Write the config; a training process reads it when its task begins."""
        self.file.write_text(yaml.safe_dump(with_ppo(self.settings, **ppo).model_dump(mode="json")))

    def train(self) -> None:
        self.celery.send_task("app.tasks.ppo", queue="training")

    def tick(self) -> None:
        """Send a tick of the PPO loop, whose turn is not due, and wait until it has been taken."""
        self.celery.send_task("app.tasks.ppo_due", kwargs={"scheduled": True}, queue="upkeep")
        log = self.file.parent / "logs/io.log"
        ticks = log.read_text().count(TICK_DONE)
        wait_for("tick", 30, lambda: log.read_text().count(TICK_DONE) > ticks)

    def ask(self, command: str) -> dict[str, Any]:
        """What each node answers to a control command, by its name before the @."""
        replies = self.celery.control.broadcast(command, reply=True, timeout=10, limit=3) or []
        return {node.split("@")[0]: answer for reply in replies for node, answer in reply.items()}

    def generation(self) -> psutil.Process:
        (found,) = [
            child
            for child in psutil.Process(self.supervisor.pids()["gpu"]).children(recursive=True)
            if child.status() != psutil.STATUS_ZOMBIE
            and any("--hostname=generation@" in part for part in child.cmdline())
        ]
        return found

    def runs(self) -> list[TrainingRun]:
        with self.database.transaction() as session:
            return list(session.scalars(select(TrainingRun).order_by(TrainingRun.started_at)))

    def drafts(self, x_post_id: str) -> int:
        with self.database.transaction() as session:
            return session.scalars(select(func.count()).where(Draft.target_post_id == x_post_id)).one()


def wait_for(what: str, seconds: float, condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"no {what} within {seconds:.0f} s"
        time.sleep(0.05)
    return found


@pytest.fixture
def workers(database: Database, bot: Bot, database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Workers]:
    tiny = save_tiny_model(tmp_path / "tiny", extra_rows=EXTRA_ROWS)
    file = tmp_path / "explorer.yaml"
    settings = config(
        tmp_path, str(tiny), gate="demo", epochs=1, min_samples=32, batch_size=96, learning_rate=2e-3,
        lora={"rank": 4, "alpha": 8}, max_memory_gb=1.15,
    )  # fmt: skip
    world = World(database, checkpoints.base_hash(tiny))
    env = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "EXPLORER_CONFIG": str(file), "OMP_NUM_THREADS": "1"}
    services = [
        Service("gpu", [sys.executable, "-m", "workers.gpu"], env=env),
        Service("io", [sys.executable, "-m", "workers.io", "--name", "io"], env=env),
    ]
    supervisor = Supervisor(services, log_dir=tmp_path / "logs")
    found = Workers(world, supervisor, Celery(broker=redis_url), file, settings)
    found.configure(micro_batch_size=96)
    supervisor.start()
    yield found
    supervisor.stop()


def writes(workers: Workers) -> bool:
    """Have generation@ answer a new post, beside whatever else goes on; whether it did so in the same process."""
    x_post_id = str(uuid.uuid4().int % 10**18)
    with workers.database.transaction() as session:
        give_seen(session, x_post_id, summons=True, author_id=x_post_id)
    workers.celery.send_task("app.tasks.generation", queue="generation")
    return bool(wait_for("draft", 60, lambda: workers.drafts(x_post_id)))


def test_a_run_that_dies_is_failed_with_its_reason_and_generation_goes_on(workers: Workers) -> None:
    assert writes(workers)
    writer = workers.generation()
    live(workers.world, workers.settings, 90)

    workers.train()
    wait_for("failed run", 60, lambda: [run for run in workers.runs() if run.state != RunState.RUNNING])
    (starved,) = workers.runs()
    assert starved.state == RunState.FAILED
    assert "ppo.max_memory_gb" in starved.reason
    assert "1.1 GB" in starved.reason
    assert starved.finished_at is not None
    assert set(workers.ask("ping")) == {"generation", "training", "io"}
    assert writes(workers)

    workers.configure(micro_batch_size=4)
    workers.train()

    def under_way() -> TrainingRun | None:
        return next((run for run in workers.runs() if run.state == RunState.RUNNING and run.progress), None)

    killed = wait_for("run under way", 60, under_way)
    with workers.database.transaction() as session:
        owner = session.scalars(select(Lease.owner)).one()
    psutil.Process(int(owner.split(":")[1])).kill()  # as the kernel does when memory runs out
    assert writes(workers)
    workers.tick()
    assert workers.runs()[1].state == RunState.RUNNING  # its lease has not run out: it may only have stalled
    with workers.database.transaction() as session:
        session.execute(update(Lease).values(expires_at=clock.wall_now() - timedelta(seconds=1)))
    workers.tick()
    assert workers.runs()[1].run_id == killed.run_id
    buried = workers.runs()[1]
    assert buried.state == RunState.FAILED
    assert "killed" in buried.reason

    workers.train()
    third = wait_for("run that ends", 90, lambda: [run for run in workers.runs()[2:] if run.state != RunState.RUNNING])[
        0
    ]
    assert third.state == RunState.SUCCEEDED, third.reason
    assert set(workers.ask("ping")) == {"generation", "training", "io"}
    assert writes(workers)
    serving = workers.ask("checkpoint")["generation"]
    assert serving["serving"] == serving["current"] == str(third.checkpoint_id)
    assert workers.generation() == writer  # the same process from first to last
    with workers.database.transaction() as session:
        failures = session.scalars(select(func.count()).where(Event.kind == "training.failed")).one()
    assert failures == 2
