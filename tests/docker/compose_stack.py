"""`docker compose` on the project's own files, and what can be asked of the stack that it runs."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
IO_WORKERS = 3
# From a machine that has none of it: two images, the model, the migrations.
UP_SECONDS = 900
KILL_CHILDREN = "import os; [os.kill(int(pid), 9) for pid in open('/proc/1/task/1/children').read().split()]"
RECORD = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/_sandbox/record').read().decode())"
# What compose may see of our environment: whatever it shares with .env would win over the file.
PASSED_ON = ("PATH", "HOME")


class Compose:
    """`docker compose` on one project with an .env of its own."""

    def __init__(self, env_file: Path, flower_port: int) -> None:
        self.flower_port = flower_port
        self.project = f"explorer-test-{uuid.uuid4().hex[:8]}"
        self._command = ["docker", "compose", "--project-directory", str(ROOT), "--project-name", self.project]
        self._command += ["--env-file", str(env_file), "--profile", "sandbox"]
        self.settings = dict(line.split("=", 1) for line in env_file.read_text().splitlines() if "=" in line)

    def __call__(self, *arguments: str, check: bool = True) -> str:
        """Run a command and return what it printed; a failure shows the end of both streams."""
        done = docker_run([*self._command, *arguments])
        if check and done.returncode != 0:
            pytest.fail(f"docker compose {' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr[-4000:]}")
        return done.stdout

    def documented(self, line: str, place: Path) -> None:
        """Carry out a line of the documents, which begins with `docker compose`, in a folder."""
        ours = line.replace("docker compose", shlex.join(self._command), 1)
        done = docker_run(["bash", "-euo", "pipefail", "-c", ours], place)
        if done.returncode != 0:
            pytest.fail(f"{line}: {done.stdout[-2000:]}{done.stderr[-4000:]}")

    def up(self, *arguments: str) -> None:
        scale = f"io-worker={IO_WORKERS}"
        self("up", *arguments, "--detach", "--wait", "--wait-timeout", str(UP_SECONDS), "--scale", scale)

    def containers(self, service: str) -> list[dict[str, Any]]:
        """What the engine knows of a service's containers."""
        ids = self("ps", "--all", "--quiet", service).split()
        return list(json.loads(docker_run(["docker", "inspect", *ids]).stdout)) if ids else []

    def record(self) -> list[dict[str, Any]]:
        """Every write request that the sandbox received."""
        return list(json.loads(self("exec", "-T", "sandbox", "python", "-c", RECORD)))

    def posted(self) -> set[str]:
        """Ids of the posts that the sandbox took."""
        made = {"post", "reply", "quote"}
        return {row["id"] for row in self.record() if row["kind"] in made and 200 <= row["status"] < 300}

    def rows(self, sql: str) -> set[str]:
        """The one column of a query."""
        psql = ("psql", "--username=explorer", "--dbname=explorer", "--host=127.0.0.1", "-At", "-c", sql)
        password = f"PGPASSWORD={self.settings['POSTGRES_PASSWORD']}"
        return set(self("exec", "-T", "--env", password, "postgres", *psql).split())

    def wait_for(self, what: str, seconds: float, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"no {what} within {seconds:.0f} s\n{self('logs', '--tail', '15', check=False)[-8000:]}")
            time.sleep(3)


def docker_run(command: list[str], place: Path = ROOT) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name in PASSED_ON or name.startswith("DOCKER_")}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd=place)
