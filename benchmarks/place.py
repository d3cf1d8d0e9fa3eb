"""A place for a bot's own processes to work in, for rows that measure them: servers, a config file, an environment."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.row import BenchmarkError

BOT, USER = "explorer", "1"
KEYS = {
    "X_API_KEY": "key", "X_API_SECRET": "secret", "X_ACCESS_TOKEN": f"{USER}-token", "X_ACCESS_TOKEN_SECRET": "secret",
}  # fmt: skip
PERSONA = {"name": "E", "description": "d", "tone": "t", "interests": ["i"]}
RICH = {"max_usd_per_day": 1e6, "max_usd_per_month": 1e6}
LONGEST_START = 120.0


@dataclass(frozen=True)
class Place:
    """Where everything is. `env` is what the bot's processes are given; this process has it, too."""

    directory: Path
    env: dict[str, str]
    db: Any

    @contextmanager
    def running(self, services: Sequence[Any], grace_seconds: float = 20.0) -> Iterator[Any]:
        """A supervisor of services (`workers.supervisor.Service`) that are given this place's environment."""
        from dataclasses import replace

        from workers.supervisor import Supervisor

        placed = [replace(service, env=self.env | dict(service.env)) for service in services]
        supervisor = Supervisor(placed, log_dir=self.directory / "logs", grace_seconds=grace_seconds)
        supervisor.start()
        try:
            yield supervisor
        finally:
            supervisor.stop()


@contextmanager
def bot_place(port_of_x: int, config: Mapping[str, Any], env: Mapping[str, str]) -> Iterator[Place]:
    """A migrated database, a Redis and a config, for a bot whose X listens on a port of this machine.

    Args:
        config: what stands in `explorer.yaml` beside or instead of the least that there has to be.
        env: variables beside those that say where things are.
    """
    import yaml

    from app.local.servers import LocalServers
    from dbs.migrations import upgrade
    from dbs.session import Database

    with tempfile.TemporaryDirectory() as scratch, LocalServers(Path(scratch)) as servers:
        directory = Path(scratch)
        upgrade(servers.database_url)
        least = {
            "user_id": USER, "bot_id": BOT, "accounts_to_follow": ["a"], "persona": PERSONA, "budget": RICH,
            "data_dir": str(directory / "data"),
        }  # fmt: skip
        file = directory / "explorer.yaml"
        file.write_text(yaml.safe_dump({**least, **config}))
        whole = {
            **KEYS, "EXPLORER_CONFIG": str(file), "DATABASE_URL": servers.database_url, "REDIS_URL": servers.redis_url,
            "X_BASE_URL": f"http://127.0.0.1:{port_of_x}", "EXPLORER_LOG_LEVEL": "WARNING", **env,
        }  # fmt: skip
        os.environ |= whole  # this process sends the turns
        db = Database(servers.database_url)
        try:
            yield Place(directory, whole, db)
        finally:
            db.close()


def consuming() -> int:
    """How many nodes answer that they consume queues."""
    from app.celery import app

    return len(app.control.inspect(timeout=2).active_queues() or {})


def until(condition: Callable[[], object], seconds: float, what: str, pause: float = 0.1) -> None:
    """Wait for something.

    Raises:
        BenchmarkError: it did not come within `seconds`.
    """
    deadline = time.perf_counter() + seconds
    while not condition():
        if time.perf_counter() > deadline:
            raise BenchmarkError(f"not within {seconds:.0f} s: {what}")
        time.sleep(pause)
