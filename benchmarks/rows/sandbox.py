"""The sandbox under load: requests a second on one core, the slowest of a hundred, and how long it takes to start.

There is nothing of its kind to compare with, so it is held against targets of its own. Its community is the shipped one
with more members and a larger crowd, its history as long as it takes to fill with posts. The server has one core, the
clients another; they have a user's bearer token and ask in a mixture as a bot does, a few connections at once, each for
the next thing as soon as it has the last.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from benchmarks.row import BenchmarkError, Figure, Measured, Probe, Row, Settings, Side

LONGEST_START = 300.0
BOT = "1000001"
# Shares of a bot's requests. At the speed of the demo's world no endpoint's window ends below 850 requests a second.
MIXTURE = {"look_up": 43, "posts": 26, "users": 12, "mentions": 7, "search": 6, "home": 3, "create": 3}


def ours(settings: Settings, probe: Probe) -> Measured:
    """Start a sandbox, then ask it for as long as the settings say."""
    probe.imported()
    with tempfile.TemporaryDirectory() as scratch:
        community = _community(settings, Path(scratch) / "community.json")
        ready = Path(scratch) / "ready.json"
        command = [sys.executable, "-m", "app.sandbox", "--state", scratch, "--ready-file", str(ready)]
        begun = datetime.now(UTC).isoformat()
        env = os.environ | {"EXPLORER_CLOCK": f"{begun}@{settings['speed']}"}
        started = time.perf_counter()
        server = subprocess.Popen([*command, "--community", str(community)], env=env)
        try:
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(server.pid, {cores[0]})
            os.sched_setaffinity(0, set(cores[1:]) or {cores[0]})
            url = _wait(server, ready)
            start = time.perf_counter() - started
            return {"start": start, **_Load(url, settings).measure(), **_size(url)}
        finally:
            server.terminate()
            server.wait(30)


def _community(settings: Settings, file: Path) -> Path:
    """The shipped community with as many members, accounts and posts as the settings say, as JSON, which is YAML."""
    from app.sandbox.communityfile import load

    body = load("default").model_dump(mode="json")
    shipped, members = body["members"], int(settings["members"])
    pace = int(settings["posts"]) * 24 / int(settings["history_hours"]) / members
    body["members"] = [
        {**shipped[i % len(shipped)], "handle": f"member_{i}", "posts_per_day": pace} for i in range(members)
    ]
    body["crowd"]["size"] = int(settings["accounts"]) - members
    body["history_hours"] = int(settings["history_hours"])
    file.write_text(json.dumps(body))
    return file


def _wait(server: subprocess.Popen[bytes], ready: Path) -> str:
    deadline = time.perf_counter() + LONGEST_START
    while not ready.exists():
        if server.poll() is not None or time.perf_counter() > deadline:
            raise BenchmarkError(f"the sandbox did not listen within {LONGEST_START:.0f} s")
        time.sleep(0.005)
    return str(json.loads(ready.read_text())["base_url"])


class _Client:
    """One connection that is kept."""

    def __init__(self, url: str, token: str = "") -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def ask(self, method: str, path: str, body: object = None) -> Any:
        self._connection.request(method, path, None if body is None else json.dumps(body), self._headers)
        answer = self._connection.getresponse()
        raw = answer.read()
        if answer.status not in {200, 201}:
            raise BenchmarkError(f"{method} {path}: {answer.status} {raw[:200]!r}")
        return json.loads(raw)


def _size(url: str) -> Measured:
    told = _Client(url).ask("GET", "/_sandbox/summary")
    return {"accounts": float(told["accounts"]), "posts": float(told["posts"])}


class _Load:
    """A few connections that ask without a pause."""

    def __init__(self, url: str, settings: Settings) -> None:
        self._url, self._settings = url, settings
        control = _Client(url)
        self._token = control.ask("POST", "/_sandbox/authorize")["access_token"]
        self._members = [member["id"] for member in control.ask("GET", "/_sandbox/members")]
        first = _Client(url, self._token)
        for member in self._members[: int(settings["followed"])]:
            first.ask("POST", f"/2/users/{BOT}/following", {"target_user_id": member})
        home = first.ask("GET", f"/2/users/{BOT}/timelines/reverse_chronological?max_results=100")
        self._posts = [post["id"] for post in home["data"]]
        self._seconds: list[float] = []
        self._failed: list[BaseException] = []

    def measure(self) -> Measured:
        begun = time.perf_counter()
        self._until = begun + float(self._settings["seconds"])
        count = int(self._settings["connections"])
        threads = [threading.Thread(target=self._run, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._failed:
            raise BenchmarkError(str(self._failed[0]))
        took, ordered = time.perf_counter() - begun, sorted(self._seconds)
        return {
            "rate": len(ordered) / took,
            "median_ms": 1000 * ordered[len(ordered) // 2],
            "p99_ms": 1000 * ordered[int(0.99 * len(ordered))],
        }

    def _run(self, number: int) -> None:
        client, chance = _Client(self._url, self._token), random.Random(f"{self._settings['seed']} {number}")
        try:
            while time.perf_counter() < self._until:
                request = self._next(chance)
                begun = time.perf_counter()
                client.ask(*request)
                self._seconds.append(time.perf_counter() - begun)
        except (BenchmarkError, OSError) as error:
            self._failed.append(error)

    def _next(self, chance: random.Random) -> tuple[str, str, object]:
        member = chance.choice(self._members)
        fields = "tweet.fields=created_at,author_id,public_metrics,conversation_id,referenced_tweets"
        size = f"max_results={self._settings['page']}&{fields}"
        [kind] = chance.choices(list(MIXTURE), list(MIXTURE.values()))
        paths = {
            "look_up": f"/2/tweets?ids={','.join(chance.sample(self._posts, int(self._settings['page'])))}&{fields}",
            "posts": f"/2/users/{member}/tweets?{size}",
            "mentions": f"/2/users/{BOT}/mentions?{size}",
            "users": f"/2/users?ids={member}&user.fields=public_metrics,description",
            "home": f"/2/users/{BOT}/timelines/reverse_chronological?{size}&expansions=author_id",
            "search": f"/2/tweets/search/recent?query={quote(f'from:{member} -is:retweet')}&{size}",
        }
        if kind == "create":
            return "POST", "/2/tweets", {"text": f"I counted {chance.getrandbits(40)} swifts over the mill this year."}
        return "GET", paths[kind], None


ROW = Row(
    name="sandbox",
    what=(
        "The sandbox alone, on one core: how many requests it answers in a second, how long the slowest of a hundred "
        "takes, and how long after its start it listens."
    ),
    ours=Side(
        label="`python -m app.sandbox`",
        measure=ours,
        settings=("The shipped community with more members, readers and history.", "Clients on another core."),
    ),
    baseline=None,
    figures=(
        Figure("requests", "rate", "a second", "ours alone", "at least", 200.0),
        Figure("99th percentile", "p99_ms", "ms", "ours alone", "at most", 50.0),
        Figure("median", "median_ms", "ms", "ours alone", "at most", None),
        Figure("start", "start", "s", "ours alone", "at most", 2.0),
    ),
    settings={
        "accounts": 10_000, "members": 300, "posts": 100_000, "history_hours": 336, "followed": 30, "page": 20,
        "connections": 4, "seconds": 20, "speed": 240, "seed": 1,
    },
    quick={"accounts": 500, "members": 30, "posts": 1000, "history_hours": 24, "followed": 10, "seconds": 1},
    packages=("fastapi", "uvicorn", "numpy"),
)  # fmt: skip
