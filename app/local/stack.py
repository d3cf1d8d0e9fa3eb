"""The whole bot on one machine: embedded servers, migrations, and every process under one supervisor."""

from __future__ import annotations

import fcntl
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import requests
import structlog

from app import clock, environment
from app.local.servers import LocalServers, free_port
from dbs import migrations
from workers import metrics
from workers.supervisor import Service, Supervisor

log = structlog.get_logger()

READY_SECONDS = 60.0
WORLD_SEEN = "world-time"
# Noted every few seconds; a crash may have happened this much wall time after the last note.
WORLD_MARGIN = timedelta(seconds=15)
KEY_NAMES = ("API_KEY", "API_SECRET", "ACCESS_TOKEN", "ACCESS_TOKEN_SECRET")


@dataclass(frozen=True)
class SandboxOptions:
    """An X of our own beside the bot.

    Attributes:
        community: name of a shipped community, or a file.
        seed: of all its randomness.
        speed: world seconds per wall second.
    """

    community: str = "default"
    seed: int = 1
    speed: float = 1.0
    bot_id: str = "1000001"
    bot_handle: str = "explorer_bot"


@dataclass(frozen=True)
class Stack:
    """A running stack: where its parts are, and what keeps them running.

    Attributes:
        metrics: addresses at which the bot's services tell Prometheus of their processes, by service.
    """

    directory: Path
    supervisors: list[Supervisor]
    env: dict[str, str]
    metrics: dict[str, str]

    def tend(self) -> None:
        """Restart what died and note the world's time. Call it every second or so."""
        for supervisor in self.supervisors:
            supervisor.tend()
        if clock.VARIABLE in self.env:
            remember_world(self.directory, self.env)


class AlreadyRunning(RuntimeError):
    """Another stack works in the same directory."""


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Hold the directory: two stacks on one set of files would each take the other's down.

    Raises:
        AlreadyRunning: somebody else holds it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(f"a stack is running in {directory} already; end it first") from None
        yield


def end_on_signals() -> None:
    """Have Ctrl-C and SIGTERM end things through the finally blocks, also where a shell started us with one ignored."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


@contextmanager
def local_servers(directory: Path) -> Iterator[dict[str, str]]:
    """Embedded servers with a migrated database, as the environment that points at them."""
    with alone(directory), LocalServers(directory) as servers:
        migrations.upgrade(servers.database_url)
        # A broker that .env names is for the deployment that has no servers of its own.
        yield {"DATABASE_URL": servers.database_url, "REDIS_URL": servers.redis_url, "BROKER_URL": ""}


@contextmanager
def local_sandbox(directory: Path, options: SandboxOptions) -> Iterator[tuple[dict[str, str], Supervisor]]:
    """A sandbox, as the environment that points a bot at it, and its supervisor."""
    directory.mkdir(parents=True, exist_ok=True)
    service, env = sandbox_service(directory, options)
    supervisor = Supervisor([service], log_dir=directory / "logs", grace_seconds=5)
    supervisor.start()
    try:
        wait_for_sandbox(env["X_BASE_URL"], supervisor)
        yield env, supervisor
    finally:
        supervisor.stop()


def sandbox_service(directory: Path, options: SandboxOptions) -> tuple[Service, dict[str, str]]:
    """The sandbox's process, and the environment that the bot's processes need to speak to it.

    Its world time goes on where it stood when the sandbox was last stopped, so a second start finds the same world.
    """
    port = free_port()
    keys = {name: secrets.token_urlsafe(16) for name in KEY_NAMES}
    # As at X, an access token begins with the id of its account.
    keys["ACCESS_TOKEN"] = f"{options.bot_id}-{keys['ACCESS_TOKEN']}"
    world = {clock.VARIABLE: _world_clock(directory, options.speed).setting()}
    command = [
        sys.executable, "-m", "app.sandbox",
        "--port", str(port),
        "--state", str(directory / "sandbox"),
        "--community", options.community,
        "--seed", str(options.seed),
        "--bot-id", options.bot_id,
        "--bot-handle", options.bot_handle,
    ]  # fmt: skip
    service = Service("sandbox", command, env={**world, **{f"SANDBOX_{name}": key for name, key in keys.items()}})
    env = {**world, **{f"X_{name}": key for name, key in keys.items()}, "X_BASE_URL": f"http://127.0.0.1:{port}"}
    env |= {"X_CLIENT_ID": "", "X_CLIENT_SECRET": ""}  # a user's own, in `.env`, would be used before these keys
    return service, env


def _world_clock(directory: Path, speed: float) -> clock.WorldClock:
    """A clock at this speed, on from where the world was last seen; from the wall's time if it is new."""
    wall = clock.wall_now()
    seen = directory / WORLD_SEEN
    origin = datetime.fromisoformat(seen.read_text()) + WORLD_MARGIN * speed if seen.exists() else wall
    return clock.WorldClock(anchor=wall, origin=origin, speed=speed)


def remember_world(directory: Path, env: dict[str, str]) -> None:
    """Note how far world time has come, so that the next start goes on from there and never goes back."""
    aside = directory / f"{WORLD_SEEN}.part"
    aside.write_text(clock.parse(env[clock.VARIABLE]).at(clock.wall_now()).isoformat())
    aside.replace(directory / WORLD_SEEN)


def wait_for_sandbox(base_url: str, supervisor: Supervisor) -> None:
    """Wait until the sandbox answers.

    Raises:
        TimeoutError: it did not within a minute; its log says why.
    """
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        supervisor.tend()
        try:
            if requests.get(f"{base_url}/_sandbox/health", timeout=2).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise TimeoutError(f"the sandbox did not answer at {base_url} within {READY_SECONDS:.0f} s; see its log")


def bot_services(directory: Path, env: dict[str, str], io_workers: int) -> list[Service]:
    """Beat, I/O workers and the GPU service."""
    beat = [
        sys.executable, "-m", "celery", "-A", "app", "beat",
        "--schedule", str(directory / "beat-schedule"), "--pidfile=",
    ]  # fmt: skip
    workers = [
        Service(f"io-{number}", [sys.executable, "-m", "workers.io", "--name", f"io-{number}"], env=env)
        for number in range(1, io_workers + 1)
    ]
    return [Service("beat", beat, env=env), *workers, Service("gpu", [sys.executable, "-m", "workers.gpu"], env=env)]


@contextmanager
def running_stack(
    directory: Path,
    config_file: Path,
    *,
    io_workers: int = 2,
    sandbox: SandboxOptions | None = None,
    before_bot: Callable[[dict[str, str]], None] | None = None,
) -> Iterator[Stack]:
    """Everything, started in order and ended together. Other terminals find it through `app/environment.py`.

    Args:
        before_bot: called with the environment once the sandbox answers and before the bot's processes start.

    Raises:
        AlreadyRunning: another stack holds the directory.
        KeyboardInterrupt: on Ctrl-C and on SIGTERM, after everything was ended.
    """
    end_on_signals()
    with local_servers(directory) as addresses, ExitStack() as parts:
        env = {**addresses, "EXPLORER_CONFIG": str(config_file.resolve())}
        supervisors = []
        if sandbox is not None:
            sandbox_env, sandbox_supervisor = parts.enter_context(local_sandbox(directory, sandbox))
            env |= sandbox_env
            supervisors.append(sandbox_supervisor)
        if before_bot is not None:
            before_bot(env)
        services = bot_services(directory, env, io_workers)
        served = {service.name: f"127.0.0.1:{free_port()}" for service in services}
        services = [
            replace(service, env={**service.env, metrics.VARIABLE: served[service.name]}) for service in services
        ]
        supervisor = Supervisor(services, log_dir=directory / "logs")
        environment.announce(env)
        try:
            supervisor.start()
            yield Stack(directory, [*supervisors, supervisor], env, served)
        finally:
            supervisor.stop()
            environment.retract()
