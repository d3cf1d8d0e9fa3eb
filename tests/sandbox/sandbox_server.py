"""A sandbox process, and tweepy clients that reach it over HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
import tweepy
from requests.adapters import HTTPAdapter

from app.clock import WorldClock
from app.sandbox.settings import Keys

# A working afternoon, so that nothing here hangs on the hour at which the tests run.
WORLD = datetime(2026, 3, 4, 15, 0, tzinfo=UTC)
SIGNED = "https://api.twitter.com"
BOT = "1000001"


class ToSandbox(HTTPAdapter):
    """Sends what was signed for X to the sandbox."""

    def __init__(self, base_url: str) -> None:
        super().__init__(max_retries=0)
        self.base_url = base_url

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        assert request.url is not None
        request.url = request.url.replace(SIGNED, self.base_url)
        kwargs["timeout"] = 20
        return super().send(request, *args, **kwargs)


def tweepy_client(base_url: str, keys: Keys | None = None) -> tweepy.Client:
    keys = keys or Keys()
    client = tweepy.Client(
        consumer_key=keys.api_key,
        consumer_secret=keys.api_secret,
        access_token=keys.access_token,
        access_token_secret=keys.access_token_secret,
    )
    client.session.mount(SIGNED, ToSandbox(base_url))
    return client


@dataclass
class Server:
    """A sandbox in a process of its own."""

    state: Path
    speed: float = 60.0
    options: tuple[str, ...] = ()
    entry: tuple[str, ...] = ("app.sandbox",)
    clock: str = field(default="")
    process: subprocess.Popen[bytes] | None = None
    base_url: str = ""

    def start(self) -> Server:
        if not self.clock:
            self.clock = WorldClock(datetime.now(UTC), WORLD, self.speed).setting()
        ready = self.state / "ready.json"
        ready.parent.mkdir(parents=True, exist_ok=True)
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", *self.entry, "--state", str(self.state), "--ready-file", str(ready)]
        env = {k: v for k, v in os.environ.items() if not k.startswith("SANDBOX_")} | {"EXPLORER_CLOCK": self.clock}
        self.process = subprocess.Popen([*command, *self.options], env=env)
        deadline = time.monotonic() + 30
        while not ready.exists():
            assert self.process.poll() is None, "the sandbox ended before it listened"
            assert time.monotonic() < deadline, "the sandbox did not listen within 30 s"
            time.sleep(0.02)
        self.base_url = json.loads(ready.read_text())["base_url"]
        return self

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    @property
    def client(self) -> tweepy.Client:
        return tweepy_client(self.base_url)

    def control(self, path: str, body: object = None) -> Any:
        url = f"{self.base_url}/_sandbox/{path}"
        answer = requests.get(url, timeout=20) if body is None else requests.post(url, json=body, timeout=20)
        answer.raise_for_status()
        return answer.json()


StartServer = Callable[..., Server]
