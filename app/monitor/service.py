"""The monitor's round: look, serve what was seen to Prometheus, tell a person what is wrong."""

from __future__ import annotations

import threading

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from sqlalchemy.exc import SQLAlchemyError

from app.config import VibeBotConfig
from app.monitor import notify
from app.monitor.alarms import Alarm, alarms, unreachable
from app.monitor.metrics import Metrics
from app.monitor.observation import Observation, observe
from dbs.session import Database

log = structlog.get_logger()


class Monitor:
    """Watches one bot.

    Args:
        channels: how a person is told; see `app/monitor/notify.py`.
    """

    def __init__(self, db: Database, config: VibeBotConfig, channels: list[notify.Channel]) -> None:
        self._db, self._config = db, config
        self._herald = notify.Herald(config.bot_id, channels)
        self._latest: Observation | None = None
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(
            Metrics(config.budget, lambda: self._latest, lambda: list(self._herald.standing.values()))
        )

    def look(self) -> list[Alarm]:
        """One round. A database that is away is an alarm and no reason to end."""
        try:
            self._latest = observe(self._db, self._config)
            found = alarms(self._latest, self._config)
        except SQLAlchemyError as error:
            found = [unreachable(error)]
        self._herald.tell(found)
        return found

    def run(self, address: str, port: int, ended: threading.Event) -> None:
        """Serve `/metrics` and look every `monitor.interval` seconds until `ended` is set.

        Raises:
            OSError: the port is taken.
        """
        self.look()
        server, thread = start_http_server(port, addr=address, registry=self.registry)
        log.info("monitor.serving", address=address, port=server.server_port, every=self._config.monitor.interval)
        try:
            while not ended.wait(self._config.monitor.interval):
                self.look()
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
