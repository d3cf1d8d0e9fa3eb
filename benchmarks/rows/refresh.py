"""Posts refreshed per second by one, three and ten I/O workers, from an X that takes 200 ms over each answer.

Real workers with their default of threads, a real broker and a real database. A tenth of the posts have a reply that
was not read before, as young posts do, and that is a request for each. The workers, the database and the simulated X
share this machine's cores; where these are at their end, more workers bring no more, and the row shows how busy they
were.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.history import fill, make_due
from benchmarks.place import LONGEST_START, Place, bot_place, consuming, until
from benchmarks.row import Figure, Measured, Probe, Row, Settings, Side

LONGEST_TURN = 600.0


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


def _rate(settings: Settings, place: Place, workers: int) -> tuple[float, float]:
    """Posts a second of a turn, and the share of all cores' time that the machine was at work meanwhile."""
    import psutil

    from workers.supervisor import Service

    names = [f"io-{number}" for number in range(1, workers + 1)]
    with place.running([Service(name, [sys.executable, "-m", "workers.io", "--name", name]) for name in names]):
        until(lambda: consuming() == workers, LONGEST_START, f"{workers} workers")
        _turn(place.db, due=100 * 4 * workers)  # every thread has its connections and imports then
        due = int(settings["due"])
        psutil.cpu_percent()
        begun = time.perf_counter()
        _turn(place.db, due=due)
        return due / (time.perf_counter() - begun), psutil.cpu_percent() / 100


@contextmanager
def _far_from_x(settings: Settings) -> Iterator[Place]:
    from app.local.servers import free_port
    from workers.supervisor import Service

    port = free_port()
    far = {
        "SLOW_X_SECONDS": str(settings["latency"]), "SLOW_X_ANSWERED_ONE_IN": str(settings["answered_one_in"]),
    }  # fmt: skip
    slow_x = [sys.executable, "-m", "uvicorn", "benchmarks.slow_x:app", "--port", str(port), "--no-access-log"]
    with bot_place(port, {}, far) as place, place.running([Service("slow-x", slow_x)], grace_seconds=5):
        fill(place.db, int(settings["posts"]))
        yield place


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
    until(lambda: stored() >= before + due, LONGEST_TURN, f"{due} posts measured")


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
    bounds=(
        "The two cores, and the lock of the bot's row. A request, with what is read and stored around it, takes 28 "
        "ms of a worker's processor time and 8 of PostgreSQL's: both cores would be at their end at 55 requests a "
        "second. One worker makes 16, ten make 37 with 78 % of the cores busy, ten of their forty threads waiting for "
        "the lock under which a request is reserved and settled. Fewer statements under it were tried and brought 5 %, "
        "no more than chance does. More cores would lift it. X bounds it first: it gives a bot 300 searches in "
        "fifteen minutes."
    ),
)
