"""What the sandbox must remember over a kill: the bot's posts and follows, requests, windows and what was paid.

SQLite with a write-ahead log: what was committed before an answer left is there after `kill -9`. Everything that
members do is a function of seed and time, and is not stored.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from app.sandbox.posts import Post

POST_COLUMNS = ("id", "author", "text", "kind", "target", "target_author", "root", "body_start", "topic")
SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS posts (
    id INTEGER PRIMARY KEY, author INTEGER NOT NULL, text TEXT NOT NULL, kind TEXT NOT NULL, target INTEGER,
    target_author INTEGER, root INTEGER NOT NULL, body_start INTEGER NOT NULL, topic TEXT, deleted_ms INTEGER);
CREATE TABLE IF NOT EXISTS removed (post INTEGER PRIMARY KEY, ms INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS standings (user INTEGER PRIMARY KEY, standing TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS follows (target INTEGER PRIMARY KEY, since_ms INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS record (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL,
    kind TEXT NOT NULL, text TEXT, target TEXT, status INTEGER NOT NULL, id TEXT, fault TEXT);
CREATE TABLE IF NOT EXISTS rate_windows (
    endpoint TEXT NOT NULL, token TEXT NOT NULL, header TEXT NOT NULL, started_ms INTEGER NOT NULL,
    span_ms INTEGER NOT NULL, allowed INTEGER NOT NULL, used INTEGER NOT NULL, refused INTEGER NOT NULL,
    PRIMARY KEY (endpoint, token, header, started_ms)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ledger (
    day TEXT NOT NULL, endpoint TEXT NOT NULL, item TEXT NOT NULL, units INTEGER NOT NULL, usd REAL NOT NULL,
    PRIMARY KEY (day, endpoint, item)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS credits (time TEXT NOT NULL, usd REAL NOT NULL);
CREATE TABLE IF NOT EXISTS tokens (
    token TEXT PRIMARY KEY, kind TEXT NOT NULL, family INTEGER NOT NULL, expires_ms INTEGER NOT NULL,
    used INTEGER NOT NULL DEFAULT 0, void INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS consents (family INTEGER PRIMARY KEY, scope TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS codes (
    code TEXT PRIMARY KEY, challenge TEXT NOT NULL, redirect_uri TEXT NOT NULL, scope TEXT NOT NULL,
    expires_ms INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS paid_reads (
    day TEXT NOT NULL, resource TEXT NOT NULL, PRIMARY KEY (day, resource)) WITHOUT ROWID;
"""


class StateMismatchError(RuntimeError):
    """The state directory belongs to another world. The message names what differs and the remedy."""


@dataclass(frozen=True)
class Window:
    """A window of a rate limit: whose it is, when it began and how long it is (ms), and how it was used.

    Attributes:
        token: the kind of token that it counts for, user or app.
        header: which of X's headers tell of it, e.g. `x-rate-limit`.
        used, refused: requests that were answered, and that met a 429.
    """

    endpoint: str
    token: str
    header: str
    started_ms: int
    span_ms: int
    allowed: int
    used: int
    refused: int


@dataclass(frozen=True)
class Write:
    """A write request as it was received.

    Attributes:
        kind: reply, post, quote, delete, follow or unfollow.
        target: id of what was answered, quoted, deleted or followed.
        status: HTTP status that X had decided on, whatever a fault made of it on the way: 2xx means that the request
            took effect. 0 where the connection was cut before anything was decided.
        id: id of the post that came of it, if one did.
        fault: name of the fault that was played on it, if any.
    """

    time: str
    method: str
    path: str
    kind: str
    text: str | None = None
    target: str | None = None
    status: int = 0
    id: str | None = None
    fault: str | None = None


@dataclass(frozen=True)
class Token:
    """An access or a refresh token of OAuth 2.0; those that came of one consent are a family."""

    kind: str
    family: int
    expires_ms: int
    used: bool
    void: bool


@dataclass(frozen=True)
class Code:
    """What an authorization code stands for. `expires_ms` is wall time."""

    challenge: str
    redirect_uri: str
    scope: str
    expires_ms: int


class Store:
    """One SQLite file; one process and one thread use it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(folder / "sandbox.sqlite3", isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside is committed together, or not at all."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def settle(self, **facts: str) -> dict[str, str]:
        """Keep facts that must stay the same for the life of the state: the first values given, on every start.

        Raises:
            StateMismatchError: a fact other than `born` differs from what the state was made with.
        """
        for name, value in facts.items():
            self._db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, value))
        kept: dict[str, str] = dict(self._db.execute("SELECT key, value FROM meta").fetchall())
        for name, value in facts.items():
            if name != "born" and kept[name] != value:
                raise StateMismatchError(
                    f"this state was made with {name}={kept[name]!r}, not {value!r}: start it as it was made, "
                    "or use another --state folder"
                )
        return kept

    def add_post(self, post: Post) -> None:
        fields = [getattr(post, name) for name in POST_COLUMNS]
        self._db.execute(f"INSERT INTO posts VALUES ({', '.join('?' * len(fields))}, NULL)", fields)  # noqa: S608

    def delete_post(self, post_id: int, ms: int) -> None:
        self._db.execute("UPDATE posts SET deleted_ms = ? WHERE id = ?", (ms, post_id))

    def remove(self, post_id: int, ms: int) -> None:
        """Keep that a member deleted a post."""
        self._db.execute("INSERT OR IGNORE INTO removed VALUES (?, ?)", (post_id, ms))

    def removed(self) -> dict[int, int]:
        """Members' deleted posts, each with when (ms)."""
        return dict(self._db.execute("SELECT post, ms FROM removed"))

    def set_standing(self, user_id: int, standing: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO standings VALUES (?, ?)", (user_id, standing))

    def standings(self) -> dict[int, str]:
        """Accounts that are not in good standing with everybody: suspended or protected ones."""
        return dict(self._db.execute("SELECT user, standing FROM standings WHERE standing != 'open'"))

    def posts(self) -> list[tuple[Post, int | None]]:
        """The bot's posts in order, each with when it was deleted (ms), if it was."""
        rows = self._db.execute(f"SELECT {', '.join(POST_COLUMNS)}, deleted_ms FROM posts ORDER BY id")  # noqa: S608
        return [(Post(**dict(zip(POST_COLUMNS, row, strict=False)), substance="bot"), row[-1]) for row in rows]

    def follow(self, target: int, ms: int) -> None:
        self._db.execute("INSERT OR IGNORE INTO follows VALUES (?, ?)", (target, ms))

    def unfollow(self, target: int) -> None:
        self._db.execute("DELETE FROM follows WHERE target = ?", (target,))

    def follows(self) -> list[int]:
        """Who the bot follows, the latest first."""
        return [row[0] for row in self._db.execute("SELECT target FROM follows ORDER BY since_ms DESC, rowid DESC")]

    def note(self, write: Write) -> None:
        marks = ", ".join("?" * 9)
        self._db.execute(
            f"INSERT INTO record (time, method, path, kind, text, target, status, id, fault) VALUES ({marks})",  # noqa: S608
            astuple(write),
        )

    def record(self) -> list[dict[str, Any]]:
        cursor = self._db.execute("SELECT * FROM record ORDER BY seq")
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def window(self, endpoint: str, token: str, header: str) -> tuple[int, int]:
        """When the latest window of a limit began (ms), and how much of it is used."""
        row = self._db.execute(
            "SELECT started_ms, used FROM rate_windows WHERE endpoint = ? AND token = ? AND header = ? "
            "ORDER BY started_ms DESC LIMIT 1",
            (endpoint, token, header),
        ).fetchone()
        return (row[0], row[1]) if row else (0, 0)

    def set_window(self, window: Window) -> None:
        """Keep how much of a window is used; those refused are added to the ones before."""
        self._db.execute(
            "INSERT INTO rate_windows VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "used = excluded.used, refused = refused + excluded.refused",
            astuple(window),
        )

    def windows(self) -> list[Window]:
        """Every window that a request ever began, each limit's in order."""
        rows = self._db.execute("SELECT * FROM rate_windows ORDER BY endpoint, token, header, started_ms")
        return [Window(*row) for row in rows]

    def book(self, day: str, endpoint: str, item: str, units: int, usd: float) -> None:
        self._db.execute(
            "INSERT INTO ledger VALUES (?, ?, ?, ?, ?) ON CONFLICT (day, endpoint, item) "
            "DO UPDATE SET units = units + excluded.units, usd = usd + excluded.usd",
            (day, endpoint, item, units, usd),
        )

    def ledger(self) -> list[dict[str, Any]]:
        """What was paid, by day, endpoint and item; requests are an item that costs nothing."""
        rows = self._db.execute("SELECT day, endpoint, item, units, usd FROM ledger ORDER BY day, endpoint, item")
        return [dict(zip(("day", "endpoint", "item", "units", "usd"), row, strict=True)) for row in rows]

    def calls(self) -> dict[str, tuple[int, float]]:
        """Requests and US dollars by endpoint."""
        rows = self._db.execute(
            "SELECT endpoint, SUM(units) FILTER (WHERE item = 'request'), SUM(usd) FROM ledger GROUP BY 1 ORDER BY 1"
        )
        return {name: (requests, usd) for name, requests, usd in rows}

    def paid(self) -> float:
        """US dollars paid in all."""
        return float(self._db.execute("SELECT COALESCE(SUM(usd), 0) FROM ledger").fetchone()[0])

    def posts_read(self, month: str) -> int:
        """Posts read in a month (`2026-03`)."""
        found = self._db.execute(
            "SELECT COALESCE(SUM(units), 0) FROM ledger "
            "WHERE day BETWEEN ? AND ? AND item IN ('post read', 'owned read')",
            (f"{month}-01", f"{month}-31"),
        )
        return int(found.fetchone()[0])

    def buy(self, time: str, usd: float) -> None:
        self._db.execute("INSERT INTO credits VALUES (?, ?)", (time, usd))

    def bought(self) -> float | None:
        """Credits bought in all, US dollars; None if there never were any."""
        found = self._db.execute("SELECT SUM(usd) FROM credits").fetchone()[0]
        return None if found is None else float(found)

    def add_token(self, token: str, kind: str, family: int, expires_ms: int) -> None:
        self._db.execute("INSERT INTO tokens VALUES (?, ?, ?, ?, 0, 0)", (token, kind, family, expires_ms))

    def token(self, token: str) -> Token | None:
        row = self._db.execute(
            "SELECT kind, family, expires_ms, used, void FROM tokens WHERE token = ?", (token,)
        ).fetchone()
        return Token(row[0], row[1], row[2], bool(row[3]), bool(row[4])) if row else None

    def use_token(self, token: str) -> None:
        self._db.execute("UPDATE tokens SET used = 1 WHERE token = ?", (token,))

    def void_family(self, family: int) -> None:
        self._db.execute("UPDATE tokens SET void = 1 WHERE family = ?", (family,))

    def add_consent(self, family: int, scope: str) -> None:
        self._db.execute("INSERT INTO consents VALUES (?, ?)", (family, scope))

    def consent(self, family: int) -> str | None:
        """The scopes that a family of tokens was granted, with spaces between."""
        row = self._db.execute("SELECT scope FROM consents WHERE family = ?", (family,)).fetchone()
        return str(row[0]) if row else None

    def add_code(self, code: str, stands_for: Code) -> None:
        self._db.execute("INSERT INTO codes VALUES (?, ?, ?, ?, ?)", (code, *astuple(stands_for)))

    def take_code(self, code: str) -> Code | None:
        """What a code stands for; nobody gets it a second time."""
        row = self._db.execute(
            "DELETE FROM codes WHERE code = ? RETURNING challenge, redirect_uri, scope, expires_ms", (code,)
        ).fetchone()
        return Code(*row) if row else None

    def count_tokens(self) -> int:
        """Tokens ever made."""
        return int(self._db.execute("SELECT COUNT(*) FROM tokens").fetchone()[0])

    def first_reads(self, day: str, resources: list[str]) -> int:
        """How many of the resources had not been read on that day before; they now have."""
        before = self._db.total_changes
        self._db.executemany("INSERT OR IGNORE INTO paid_reads VALUES (?, ?)", [(day, name) for name in resources])
        fresh = self._db.total_changes - before
        if fresh:
            self._db.execute("DELETE FROM paid_reads WHERE day < ?", (day,))
        return fresh
