"""Engines and transactions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker


class Database:
    """One pool of connections and the transactions on it.

    A pool must not cross a fork: each process makes a Database of its own.
    """

    def __init__(self, url: str, *, pool_size: int = 5, connect_seconds: int | None = None) -> None:
        options = {"connect_timeout": connect_seconds} if connect_seconds is not None else {}
        # pre_ping: a restarted server costs one round trip, not a failed task.
        self.engine: Engine = create_engine(
            url, pool_size=pool_size, max_overflow=5, pool_pre_ping=True, connect_args=options
        )
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session that commits at the end of the block and rolls back if the block raises."""
        with self._sessions.begin() as session:
            yield session

    def close(self) -> None:
        self.engine.dispose()
