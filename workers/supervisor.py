"""Child processes kept alive: started in order, restarted when they die, ended together."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import structlog

from workers import leash

log = structlog.get_logger()

# A process that dies sooner than this after its start is broken rather than unlucky; each such death doubles the wait.
HEALTHY_SECONDS = 20.0
MAX_BACKOFF_SECONDS = 30.0
LOWEST_PRIORITY = 19


@dataclass(frozen=True)
class Service:
    """One process to keep.

    Attributes:
        nice: added to the niceness of the supervisor; training runs at 10, so that generation goes first.
        oom_score: what the kernel adds to its badness when memory runs out, −1000 to 1000.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    nice: int = 0
    oom_score: int = 0


class Supervisor:
    """Starts services, restarts the ones that die, and ends them all.

    Each service leads a process group of its own, so that what it forked ends with it. Where the supervisor itself is
    killed, the nodes of Celery end by `workers/leash.py`.
    """

    def __init__(self, services: Sequence[Service], log_dir: Path | None = None, grace_seconds: float = 20.0) -> None:
        self._services = list(services)
        self._log_dir = log_dir
        self._grace = grace_seconds
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._started: dict[str, float] = {}
        self._backoff: dict[str, float] = {}
        self._retry_at: dict[str, float] = {}
        self.restarts = 0

    def start(self) -> None:
        for service in self._services:
            self._start(service)

    def tend(self) -> None:
        """Restart what died. Call it every second or so."""
        for service in self._services:
            code = self._processes[service.name].poll()
            if code is None:
                continue
            now = time.monotonic()
            if service.name not in self._retry_at:
                lived = now - self._started[service.name]
                wait = 0.5 if lived > HEALTHY_SECONDS else self._backoff.get(service.name, 0.5)
                self._backoff[service.name] = min(wait * 2, MAX_BACKOFF_SECONDS)
                self._retry_at[service.name] = now + wait
                log.warning("service.died", service=service.name, code=code, lived_s=round(lived, 1), retry_s=wait)
                self._signal(service.name, signal.SIGKILL)
            elif now >= self._retry_at[service.name]:
                self.restarts += 1
                self._start(service)

    def stop(self) -> None:
        """Ask every service to end, in reverse order, and kill the groups of those that do not within the grace."""
        names = [service.name for service in reversed(self._services) if service.name in self._processes]
        for name in names:
            self._signal(name, signal.SIGTERM)
        deadline = time.monotonic() + self._grace
        for name in names:
            try:
                self._processes[name].wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("service.killed", service=name, grace_s=self._grace)
            # The leader may be gone while something that it forked is not.
            self._signal(name, signal.SIGKILL)
            self._processes[name].wait()

    def pids(self) -> dict[str, int]:
        return {name: process.pid for name, process in self._processes.items() if process.poll() is None}

    def _start(self, service: Service) -> None:
        self._retry_at.pop(service.name, None)
        output = self._open_log(service.name)
        self._processes[service.name] = subprocess.Popen(
            service.command,
            env={**os.environ, **service.env, leash.VARIABLE: str(os.getpid())},
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        if output is not None:
            output.close()
        pid = self._processes[service.name].pid
        self._started[service.name] = time.monotonic()
        if service.nice:
            # To set a lower value than our own needs a privilege, and a service manager may have given us a high one.
            os.setpriority(os.PRIO_PGRP, pid, min(LOWEST_PRIORITY, os.nice(0) + service.nice))
            # Linux shares the processor among sessions first, and niceness counts only within one: a session of its
            # own has a niceness of its own (sched(7), "The autogroup feature").
            _tell_kernel(pid, "autogroup", service.nice)
        if service.oom_score:
            _tell_kernel(pid, "oom_score_adj", service.oom_score)
        log.info("service.started", service=service.name, pid=pid)

    def _open_log(self, name: str) -> IO[bytes] | None:
        if self._log_dir is None:
            return None
        self._log_dir.mkdir(parents=True, exist_ok=True)
        return (self._log_dir / f"{name}.log").open("ab")

    def _signal(self, name: str, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._processes[name].pid, number)


def _tell_kernel(pid: int, setting: str, value: int) -> None:
    with contextlib.suppress(FileNotFoundError):  # not Linux, the feature is off, or the process is gone already
        Path(f"/proc/{pid}/{setting}").write_text(str(value))
