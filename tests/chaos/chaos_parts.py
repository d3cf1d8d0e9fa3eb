"""The whole bot with every part in reach: servers that can crash, processes that can be killed, an X that can fail."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
from chaos_plan import Happening

from app import clock
from app.local.observer import Observer
from app.local.sandboxed import SPEED, config_writer, time_lapse_config
from app.local.servers import EmbeddedPostgres, EmbeddedRedis
from app.local.stack import SandboxOptions, alone, bot_services, local_sandbox
from dbs import migrations
from workers.supervisor import Supervisor

End = Callable[[], None]
DISK_BYTES = 64 * 2**20
CLIENT_SECONDS = 40.0  # longer than the bot's own time-out for a request


@dataclass
class Chaos:
    """A running stack and the means to break it. `rates` are X's faults that are on, by the fault that set them."""

    directory: Path
    postgres: EmbeddedPostgres
    redis: EmbeddedRedis
    sandbox: Supervisor
    bot: Supervisor
    observer: Observer
    env: dict[str, str]
    disk: Path | None
    rates: dict[Happening, dict[str, Any]] = field(default_factory=dict)

    def tend(self) -> None:
        """Restart what died, as whoever runs the bot would have it done."""
        self.sandbox.tend()
        self.bot.tend()

    def begin(self, fault: Happening) -> End | None:
        """Let a fault happen; returns what ends it, None if it ends by itself."""
        match fault.kind:
            case "kill io":
                return self._kill(fault.facts["worker"])
            case "kill beat" | "kill gpu":
                return self._kill(fault.kind.split()[1])
            case "kill generation" | "kill training":
                return self._kill_node(fault.kind.split()[1])
            case "freeze":
                return self._freeze(fault.facts["service"])
            case "redis crash":
                self.redis.crash()
                return self._redis_again
            case "redis loses everything":
                self.redis.crash()
                shutil.rmtree(self.redis.directory)
                return self._redis_again
            case "postgres crash":
                self.postgres.crash()
                return self._postgres_again
            case "skewed clock":
                return self._skewed_worker(fault)
            case "full disk":
                return self._fill_disk()
        return self._trouble_at_x(fault)

    def calm(self) -> None:
        """Take every fault of X away."""
        self.rates.clear()
        self.observer.post("faults", [])
        self.observer.post("script", [])

    def _kill(self, service: str) -> None:
        pid = self.bot.pids().get(service)
        if pid is not None:  # it may be dead already, and not restarted yet
            os.killpg(pid, signal.SIGKILL)

    def _kill_node(self, node: str) -> None:
        pid = self.bot.pids().get("gpu")
        if pid is None:
            return
        for process in psutil.Process(pid).children(recursive=True):
            try:
                if f"{node}@" in " ".join(process.cmdline()):
                    process.kill()
            except psutil.NoSuchProcess:
                continue  # it ended while we looked

    def _freeze(self, service: str) -> End | None:
        pid = self.bot.pids().get(service)
        if pid is None:
            return None
        os.killpg(pid, signal.SIGSTOP)

        def thaw() -> None:
            if self.bot.pids().get(service) == pid:  # it may have been killed meanwhile, frozen as it was
                os.killpg(pid, signal.SIGCONT)

        return thaw

    def _redis_again(self) -> None:
        self.redis.start()

    def _postgres_again(self) -> None:
        self.postgres.start()

    def _skewed_worker(self, fault: Happening) -> End:
        """One more I/O worker, on a machine whose clock is wrong."""
        world = clock.parse(self.env[clock.VARIABLE])
        wrong = clock.WorldClock(
            anchor=world.anchor, origin=world.origin + timedelta(minutes=fault.facts["minutes"]), speed=world.speed
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.io", "--name", f"io-{round(fault.at * 10)}"],
            env={**os.environ, **self.env, clock.VARIABLE: wrong.setting()},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

        def end() -> None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

        return end

    def _fill_disk(self) -> End | None:
        if self.disk is None:
            return None
        hog = self.disk / "hog"
        with hog.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * 2**20)
            except OSError:
                pass  # full, as wanted
        return lambda: hog.unlink(missing_ok=True)

    def _trouble_at_x(self, fault: Happening) -> End | None:
        posts = {"method": "POST", "path": "^/2/tweets$"}
        scripted = {
            "post resets after": "reset_after",
            "post times out after": "timeout_after",
            "post takes effect late": "late_effect",
            "post answers 503 after": "503_after",
        }
        facts = fault.facts
        if fault.kind in scripted:
            entry = {"fault": scripted[fault.kind], "count": facts["times"], "seconds": CLIENT_SECONDS, **posts}
        elif fault.kind == "X is slow":
            entry = {"fault": "latency", "rate": 0.7, "seconds": 2.0, "distribution": "exponential"}
        elif fault.kind == "own timeline lags":
            entry = {"fault": "lagging_timeline", "seconds": 600.0}
        else:
            entry = {"fault": facts["fault"], "rate": facts["rate"], "seconds": 3.0}
        self.rates[fault] = entry
        self.observer.post("faults", list(self.rates.values()))

        def end() -> None:
            if self.rates.pop(fault, None) is not None:
                self.observer.post("faults", list(self.rates.values()))

        return end


@contextmanager
def small_disk(directory: Path) -> Iterator[Path | None]:
    """A file system of its own that can be filled; None where one may not be mounted."""
    directory.mkdir(parents=True, exist_ok=True)
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "explorer-chaos", str(directory)],
        capture_output=True,
        check=False,
    )
    if mount.returncode != 0:
        yield None
        return
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@contextmanager
def chaos_stack(directory: Path, model: Path, *, seed: int, python_path: Path | None = None) -> Iterator[Chaos]:
    """Everything, on servers of its own.

    Args:
        python_path: put before everything else that the bot's processes import: how a guard is taken away on purpose.
    """
    postgres, redis = EmbeddedPostgres(directory / "postgres"), EmbeddedRedis(directory / "redis")
    config_file = directory / "explorer.yaml"
    with ExitStack() as parts:
        parts.enter_context(alone(directory))
        disk = parts.enter_context(small_disk(directory / "data"))
        database_url = postgres.start()
        parts.callback(postgres.stop)
        redis_url = redis.start()
        parts.callback(redis.stop)
        migrations.upgrade(database_url)
        sandbox_env, sandbox = parts.enter_context(local_sandbox(directory, SandboxOptions(seed=seed, speed=SPEED)))
        env = {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "EXPLORER_CONFIG": str(config_file),
            **sandbox_env,
        }
        if python_path is not None:
            env["PYTHONPATH"] = str(python_path)
        config_writer(time_lapse_config(directory, model), config_file)(env)
        bot = Supervisor(bot_services(directory, env, 2), log_dir=directory / "logs")
        bot.start()
        parts.callback(bot.stop)
        yield Chaos(directory, postgres, redis, sandbox, bot, Observer(env["X_BASE_URL"]), env, disk)
