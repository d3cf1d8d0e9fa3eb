"""Posts refreshed per second by one, three and ten I/O workers, from an X that takes 200 ms over each answer.

Real workers with their default of threads, a real broker and a real database. A tenth of the posts have a reply that
was not read before, as young posts do, and that is a request for each. The workers, the database and the simulated X
share this machine's cores; where these are at their end, more workers bring no more, and the row shows how busy they
were.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.history import BOT, fill, make_due
from benchmarks.row import BenchmarkError, Figure, Measured, Probe, Row, Settings, Side

USER = "1"
KEYS = {
    "X_API_KEY": "key", "X_API_SECRET": "secret", "X_ACCESS_TOKEN": f"{USER}-token", "X_ACCESS_TOKEN_SECRET": "secret",
}  # fmt: skip
LONGEST_START, LONGEST_TURN = 120.0, 600.0


def more_workers(settings: Settings, probe: Probe) -> Measured:
    probe.imported()
    with _far_from_x(settings) as place:
        three, three_busy = _rate(settings, place, 3)
        ten, ten_busy = _rate(settings, place, 10)
    return {"three": three, "ten": ten, "three_busy": three_busy, "ten_busy": ten_busy}


def one_worker(settings: Settings, probe: Probe) -> Measured:
    probe.imported()
    with _far_from_x(settings) as place:
        rate, _ = _rate(settings, place, 1)
    return {"three": rate, "ten": rate}


@dataclass(frozen=True)
class Place:
    """What the workers need: servers, a config, and an X that is far away."""

    directory: Path
    env: dict[str, str]
    db: Any


def _rate(settings: Settings, place: Place, workers: int) -> tuple[float, float]:
    """Posts a second of a turn, and the share of all cores' time that the machine was at work meanwhile."""
    import psutil

    from workers.supervisor import Service, Supervisor

    names = [f"io-{number}" for number in range(1, workers + 1)]
    services = [Service(name, [sys.executable, "-m", "workers.io", "--name", name], env=place.env) for name in names]
    supervisor = Supervisor(services, log_dir=place.directory / "logs")
    supervisor.start()
    try:
        _until(lambda: _consuming() == workers, LONGEST_START, f"{workers} workers")
        _turn(place.db, due=100 * 4 * workers)  # every thread has its connections and imports then
        due = int(settings["due"])
        psutil.cpu_percent()
        begun = time.perf_counter()
        _turn(place.db, due=due)
        return due / (time.perf_counter() - begun), psutil.cpu_percent() / 100
    finally:
        supervisor.stop()


@contextmanager
def _far_from_x(settings: Settings) -> Iterator[Place]:
    import yaml

    from app.local.servers import LocalServers, free_port
    from dbs.migrations import upgrade
    from dbs.session import Database
    from workers.supervisor import Service, Supervisor

    with tempfile.TemporaryDirectory() as scratch, LocalServers(Path(scratch)) as servers:
        directory, port = Path(scratch), free_port()
        upgrade(servers.database_url)
        db = Database(servers.database_url)
        fill(db, int(settings["posts"]))
        config = directory / "explorer.yaml"
        persona = {"name": "E", "description": "d", "tone": "t", "interests": ["i"]}
        budget = {"max_usd_per_day": 1e6, "max_usd_per_month": 1e6}
        config.write_text(yaml.safe_dump({
            "user_id": USER, "bot_id": BOT, "accounts_to_follow": ["a"], "persona": persona, "budget": budget,
            "data_dir": str(directory / "data"),
        }))  # fmt: skip
        env = KEYS | {
            "EXPLORER_CONFIG": str(config), "DATABASE_URL": servers.database_url, "REDIS_URL": servers.redis_url,
            "X_BASE_URL": f"http://127.0.0.1:{port}", "SLOW_X_SECONDS": str(settings["latency"]),
            "SLOW_X_ANSWERED_ONE_IN": str(settings["answered_one_in"]), "EXPLORER_LOG_LEVEL": "WARNING",
        }  # fmt: skip
        os.environ |= env  # this process sends the turns
        slow_x = [sys.executable, "-m", "uvicorn", "benchmarks.slow_x:app", "--port", str(port), "--no-access-log"]
        supervisor = Supervisor([Service("slow-x", slow_x, env=env)], log_dir=directory / "logs", grace_seconds=5)
        supervisor.start()
        try:
            yield Place(directory, env, db)
        finally:
            supervisor.stop()
            db.close()


def _consuming() -> int:
    from app.celery import app

    return len(app.control.inspect(timeout=2).active_queues() or {})


def _turn(db: Any, *, due: int) -> None:
    """Have as many posts measured as are due, all of them."""
    from sqlalchemy import func, select

    from app.celery import app
    from dbs.models import Engagement

    def stored() -> int:
        with db.transaction() as session:
            return int(session.scalars(select(func.count()).select_from(Engagement)).one())

    make_due(db, due)
    before = stored()
    app.send_task("app.tasks.engagement")
    _until(lambda: stored() >= before + due, LONGEST_TURN, f"{due} posts measured")


def _until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.perf_counter() + seconds
    while not condition():
        if time.perf_counter() > deadline:
            raise BenchmarkError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.1)


ROW = Row(
    name="refresh",
    what="Posts refreshed per second as I/O workers are added, from an X that takes 200 ms over each answer.",
    ours=Side(label="three and ten I/O workers", measure=more_workers, settings=("Four threads each, the default.",)),
    baseline=Side(label="one I/O worker", measure=one_worker, settings=("The same.",)),
    figures=(
        Figure("three workers", "three", "posts/s", "ours / baseline", "at least", 2.8),
        Figure("ten workers", "ten", "posts/s", "ours / baseline", "at least", 8.0),
        Figure("cores at work, three", "three_busy", "of all", "ours alone", "at least", None),
        Figure("cores at work, ten", "ten_busy", "of all", "ours alone", "at least", None),
    ),
    settings={"posts": 40_000, "due": 6400, "latency": 0.2, "answered_one_in": 10},
    quick={"posts": 6000, "due": 800},
    packages=("celery", "sqlalchemy", "psycopg2-binary"),
)
