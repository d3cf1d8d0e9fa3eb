"""From a tick of beat to the bot's request at X: what the queue, the worker and the database take before X is asked.

One I/O worker as the service starts it, with nothing else to do, a real Redis and a real Postgres, and an X on
loopback in this process that notes when a request came in. A tick is sent as beat sends one, with the timeline due:
the worker takes the message, claims the turn, reserves the request's place in the window and the budget, and asks X.
Between two ticks the worker rests for a random while.
"""

from __future__ import annotations

import json
import queue
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from benchmarks.place import BOT, LONGEST_START, USER, Place, bot_place, consuming, until
from benchmarks.row import BenchmarkError, Figure, Measured, Probe, Row, Settings, Side

ARRIVED: queue.Queue[tuple[float, str]] = queue.Queue()  # when a request's first line was read, and its path
LONGEST_TURN = 30.0
WARM = 5  # ticks by which imports, connections and the queue of messages have been set up


class _EmptyX(BaseHTTPRequestHandler):
    """An X on which nothing is new, and whose windows never end."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        ARRIVED.put((time.perf_counter(), self.path.partition("?")[0]))
        body = json.dumps({"meta": {"result_count": 0}}).encode()
        self.send_response(200)
        reset = str(int(time.time()) + 900)
        for name, value in (("limit", "1000000"), ("remaining", "1000000"), ("reset", reset)):
            self.send_header(f"x-rate-limit-{name}", value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing: a line per request would be written where the time is taken."""


def ours(settings: Settings, probe: Probe) -> Measured:
    from workers.supervisor import Service

    probe.imported()
    chance = random.Random(int(settings["seed"]))
    with _empty_x() as port, bot_place(port, {}, {}) as place:
        _follow_somebody(place)
        with place.running([Service("io", [sys.executable, "-m", "workers.io", "--name", "io"])]):
            until(lambda: consuming() == 1, LONGEST_START, "the I/O worker")
            seconds = [_from_tick_to_request(place, chance) for _ in range(WARM + int(settings["ticks"]))][WARM:]
    ordered = sorted(seconds)
    return {
        "median": 1000 * ordered[len(ordered) // 2],
        "p95": 1000 * ordered[int(0.95 * len(ordered))],
        "longest": 1000 * ordered[-1],
    }


@contextmanager
def _empty_x() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _EmptyX)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


def _follow_somebody(place: Place) -> None:
    """The bot's rows, and one member, without whom no timeline is read."""
    from app import clock
    from app.context import BotContext
    from app.loading import load_config
    from dbs.models import Community, Membership

    BotContext(load_config()).enrol()
    now = clock.now()
    with place.db.transaction() as session:
        session.add(Community(user_id="7", handle="seven", fetched_at=now))
        session.flush()
        session.add(Membership(
            bot_id=BOT, user_id="7", follow_state="following", reply_policy="reply", followed_at=now, joined_at=now
        ))  # fmt: skip


def _from_tick_to_request(place: Place, chance: random.Random) -> float:
    from sqlalchemy import update

    from app import clock
    from app.celery import TICK_LIFE_SECONDS, app
    from dbs.models import Loop

    with place.db.transaction() as session:
        due = update(Loop).where(Loop.bot_id == BOT, Loop.loop == "timeline")
        session.execute(due.values(next_due_at=clock.now() - timedelta(seconds=1)))
    time.sleep(chance.uniform(0.2, 1.0))
    begun = time.perf_counter()
    app.send_task("app.tasks.timeline", kwargs={"scheduled": True}, expires=TICK_LIFE_SECONDS)
    try:
        arrived, path = ARRIVED.get(timeout=LONGEST_TURN)
    except queue.Empty:
        raise BenchmarkError(f"X was not asked within {LONGEST_TURN:.0f} s of a tick") from None
    if path != f"/2/users/{USER}/timelines/reverse_chronological":
        raise BenchmarkError(f"X was asked for {path}, which is not the timeline")
    return arrived - begun


ROW = Row(
    name="tick",
    what="From a tick for the timeline to the request that arrives at X, with an I/O worker that had nothing to do.",
    ours=Side(
        label="one I/O worker",
        measure=ours,
        settings=("Redis and PostgreSQL of the wheels, durable; X on loopback, its time of arrival noted there.",),
    ),
    baseline=None,
    figures=(
        Figure("95th percentile", "p95", "ms", "ours alone", "at most", 250.0),
        Figure("median", "median", "ms", "ours alone", "at most", None),
        Figure("longest", "longest", "ms", "ours alone", "at most", None),
    ),
    settings={"ticks": 60, "seed": 1},
    quick={"ticks": 10},
    packages=("celery", "redis", "sqlalchemy", "tweepy"),
)
