"""The rows of the data set: begun, gone on with, and moved forward page by page.

A page counts when one transaction has moved the account's cursor and the number of bytes that count, after the bytes
are on the disk; before that, nothing of it does. See `docs/jump-start.md`.
"""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Text, any_, delete, literal, select
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import Session

from app import clock, events
from app.config import VibeBotConfig
from app.data import files
from app.data.files import Appender, FileEntry
from app.data.filters import Dropped, reason_to_drop
from app.data.near import NearDuplicates
from app.data.records import encode, record_of
from app.data.sources import SourcePage
from app.data.working_copy import WorkingCopy
from app.loading import ConfigError
from app.shared_files import shared_files
from app.x.snowflake import snowflake_at
from dbs.models import DataSet, DataSetAccount, Forgotten
from dbs.session import Database
from dbs.states import DataSetState, SourceState

FOLDER = "jump_start_files"
MANIFEST = "manifest.json"
INDEXED_AT_ONCE = 2000  # records
KEPT_SETTINGS = ("source", "path", "languages", "max_similarity", "posts_per_account", "read_reposts", "read_parents")


def directory(config: VibeBotConfig) -> Path:
    """Where the files of a bot lie: the seed's folder, and in it one per bot."""
    return Path(config.data_dir) / FOLDER / config.bot_id


def entries_of(row: DataSet) -> list[FileEntry]:
    return [FileEntry(**entry) for entry in row.files]


def working_copy(config: VibeBotConfig, row: DataSet) -> WorkingCopy:
    """The files of a data set on this machine.

    Raises:
        SharedFilesError: `shared_url` cannot be used.
    """
    begun = f"{row.begun_at:%Y%m%dT%H%M%S%f}"
    return WorkingCopy(directory(config), shared_files(config), f"{FOLDER}/{config.bot_id}", begun)


def find(session: Session, bot_id: str) -> DataSet | None:
    return session.get(DataSet, bot_id)


def begin(session: Session, config: VibeBotConfig) -> DataSet:
    """The row of the data set; made where there is none.

    Raises:
        ConfigError: it was begun with another source or other filters.
    """
    settings = {name: getattr(config.sft, name) for name in KEPT_SETTINGS}
    row = session.get(DataSet, config.bot_id, with_for_update=True)
    if row is None:
        now = clock.now()
        row = DataSet(
            bot_id=config.bot_id,
            state=DataSetState.OPEN,
            settings=settings,
            files=[],
            posts=0,
            characters=0,
            dropped={},
            usd=Decimal(0),
            asked_to=0,
            by_workers=False,
            before_id=snowflake_at(now) if config.sft.source == "x" else None,
            begun_at=now,
            updated_at=clock.wall_now(),
        )
        session.add(row)
        session.flush()
    require_same_settings(row, config)
    return row


def require_same_settings(row: DataSet, config: VibeBotConfig) -> None:
    """Make sure that the data set was begun with this config's source and filters.

    Raises:
        ConfigError: it was begun with others.
    """
    changed = sorted(name for name in KEPT_SETTINGS if row.settings.get(name) != getattr(config.sft, name))
    if changed:
        was = ", ".join(f"sft.{name}={row.settings.get(name)!r}" for name in changed)
        raise ConfigError(f"the data set was begun with {was}; set that again, or begin anew with `data-set --fresh`")


def enrol(session: Session, bot_id: str, accounts: list[str]) -> None:
    """Give each account its place in the round; one that has it keeps it."""
    rows = [
        {
            "bot_id": bot_id,
            "account": account,
            "position": position,
            "state": SourceState.READING,
            "turns": 0,
            "read": 0,
            "kept": 0,
            "updated_at": clock.wall_now(),
        }
        for position, account in enumerate(accounts)
    ]
    if rows:
        session.execute(insert(DataSetAccount).values(rows).on_conflict_do_nothing())


def accounts(session: Session, bot_id: str) -> list[DataSetAccount]:
    """Every account of the data set, in the order of the round."""
    rows = session.scalars(
        select(DataSetAccount).where(DataSetAccount.bot_id == bot_id).order_by(DataSetAccount.position)
    )
    return list(rows)


def discard(session: Session, config: VibeBotConfig) -> None:
    """Remove the data set, rows and files, so that another can be begun. What was forgotten stays forgotten."""
    bot_id = config.bot_id
    row = session.get(DataSet, bot_id, with_for_update=True)
    if row is not None:
        working_copy(config, row).discard()
    session.execute(delete(DataSetAccount).where(DataSetAccount.bot_id == bot_id))
    session.execute(delete(DataSet).where(DataSet.bot_id == bot_id))
    session.flush()
    place = directory(config)
    for file in [*place.glob("[0-9]*.json"), place / MANIFEST]:
        file.unlink(missing_ok=True)


class Gatherer:
    """Takes pages into the data set. Several processes may do so at once; the row of the data set is their lock.

    Args:
        limit: bytes at which a file is closed.
    """

    def __init__(self, db: Database, config: VibeBotConfig) -> None:
        self._db, self._config = db, config
        self._place = directory(config)
        self._appender: Appender | None = None
        self._near = self._new_index()
        self._indexed = 0  # position up to which the files are in the index

    def repair(self) -> None:
        """Undo what a killed process left behind the bytes that count."""
        with self._db.transaction() as session:
            row = session.get_one(DataSet, self._config.bot_id, with_for_update=True)
            working_copy(self._config, row).bring(entries_of(row))
            files.repair(self._place, entries_of(row), self._config.sft.file_bytes)

    def catch_up(self) -> None:
        """Read what others have committed without the lock, so that none of them waits for a long index."""
        with self._db.transaction() as session:
            row = session.get(DataSet, self._config.bot_id)
        if row is not None:
            files.check(self._place, entries_of(row))
            self._catch_up(entries_of(row))

    def take(self, account: DataSetAccount, page: SourcePage) -> bool:
        """Commit a page; False if another process has had this turn, or has claimed it, meanwhile."""
        with self._db.transaction() as session:
            row = session.get(DataSet, self._config.bot_id, with_for_update=True)
            mine = session.get(
                DataSetAccount, (account.bot_id, account.account), with_for_update=True, populate_existing=True
            )
            if row is None or mine is None or _turn_of(mine) != _turn_of(account):
                return False
            before = len(row.files)
            try:
                self._write(session, row, mine, page)
            except BaseException:
                self._forget_index()
                raise
            if len(row.files) != before:
                session.flush()
                export(session, self._config)
        return True

    def _write(self, session: Session, row: DataSet, mine: DataSetAccount, page: SourcePage) -> None:
        dropped: Counter[str] = Counter()
        copy = working_copy(self._config, row)
        copy.bring(entries_of(row))
        with Appender(self._place, entries_of(row), self._config.sft.file_bytes) as appender:
            self._appender = appender
            self._catch_up(appender.entries)
            forgotten = self._forgotten(session, page)
            kept = characters = 0
            reasons = [reason_to_drop(post, self._config.sft.languages) for post in page.posts]
            self._near.expect(post.text for post, reason in zip(page.posts, reasons, strict=True) if reason is None)
            for post, dropped_as in zip(page.posts, reasons, strict=True):
                reason = dropped_as
                if reason is None and {post.post_id, post.author_id} & forgotten:
                    reason = Dropped.FORGOTTEN
                if reason is None and self._near.has(post.text):
                    reason = Dropped.NEAR_DUPLICATE
                if reason is not None:
                    dropped[reason.value] += 1
                    continue
                if {post.in_reply_to_post_id, post.parent_author_id} & forgotten:
                    post = replace(post, parent_text=None)  # noqa: PLW2901 - the same post, without a stranger's words
                self._near.add(post.text, appender.append(encode(record_of(post))))
                kept += 1
                characters += len(post.text)
            entries = appender.sync()
            self._indexed = files.end_of(entries)
        row.files = [entry.as_row() for entry in copy.sign(entries_of(row), entries)]
        row.posts += kept
        row.characters += characters
        row.dropped = dict(Counter(row.dropped) + dropped)
        row.usd += Decimal(str(page.usd))
        row.updated_at = mine.updated_at = clock.wall_now()
        mine.turns += 1
        mine.read += page.read
        mine.kept += kept
        mine.cursor = page.cursor
        mine.claim_id = mine.claimed_until = None
        if page.cursor is None:
            mine.state, mine.reason = page.state, page.reason

    def _catch_up(self, entries: Sequence[FileEntry]) -> None:
        """Bring into the index what other processes, or this one before a restart, have committed."""
        end = files.end_of(entries)
        if self._indexed < end:
            found = files.positions(self._place, entries, self._indexed)
            while part := list(islice(found, INDEXED_AT_ONCE)):
                self._near.expect(record.text for _, record in part)
                for position, record in part:
                    self._near.add(record.text, position)
            self._indexed = end

    def _forgotten(self, session: Session, page: SourcePage) -> set[str]:
        """Asked without the lock of `app/forgotten.py`: whoever forgets reads the files after the page is in them."""
        subjects = {
            subject
            for post in page.posts
            for subject in (post.post_id, post.author_id, post.in_reply_to_post_id, post.parent_author_id)
            if subject
        }
        return set(
            session.scalars(
                select(Forgotten.subject).where(
                    # One array: a parameter for each subject would take longer to write down than to look up.
                    Forgotten.bot_id == self._config.bot_id,
                    Forgotten.subject == any_(literal(sorted(subjects), ARRAY(Text))),
                )
            )
        )

    def _new_index(self) -> NearDuplicates:
        return NearDuplicates(self._text_at, self._config.sft.max_similarity)

    def _forget_index(self) -> None:
        """The index may hold posts of a page that was not committed: it is read from the files again."""
        self._near.close()
        self._near = self._new_index()
        self._indexed = 0

    def _text_at(self, position: int) -> str | None:
        assert self._appender is not None  # noqa: S101 - the index is asked only while a page is written
        record = self._appender.read_at(position)
        return record.text if record else None

    def close(self) -> None:
        self._near.close()


def _turn_of(account: DataSetAccount) -> tuple[int, str | None, uuid.UUID | None]:
    return account.turns, account.cursor, account.claim_id


def end(session: Session, config: VibeBotConfig, state: DataSetState, reason: str) -> None:
    """Record why gathering ended, or what it waits for, in the row, the manifest and the events."""
    row = session.get_one(DataSet, config.bot_id, with_for_update=True)
    row.state, row.reason, row.updated_at = state, reason, clock.wall_now()
    row.by_workers, row.waits_until = False, None
    session.flush()
    export(session, config, whole=True)
    events.record(session, config.bot_id, "data_set.ended", state=state.value, reason=reason)


def export(session: Session, config: VibeBotConfig, *, whole: bool = False) -> Path:
    """Write the manifest beside the files, for readers without the database; replaced whole or not at all.

    Where machines share a store, the files go there first.

    Args:
        whole: the open file too: gathering has ended or is put off, or its files were rewritten.

    Raises:
        SharedFilesError: the store does not take them; only where `whole`.
    """
    shared = shared_files(config) is not None
    row = session.get_one(DataSet, config.bot_id, with_for_update=True if shared else None)
    copy = working_copy(config, row)
    copy.deliver(entries_of(row), whole=whole)
    shown: dict[str, Any] = {
        "bot_id": row.bot_id,
        "state": row.state,
        "reason": row.reason,
        "settings": row.settings,
        "files": [{"name": f"{number}.json", **entry} for number, entry in enumerate(row.files)],
        "posts": row.posts,
        "tokens": row.characters // 4,
        "dropped": row.dropped,
        "usd": float(row.usd),
        "accounts": [
            {
                "account": account.account,
                "state": account.state,
                "reason": account.reason,
                "cursor": account.cursor,
                "read": account.read,
                "kept": account.kept,
            }
            for account in accounts(session, config.bot_id)
        ],
    }
    path = directory(config) / MANIFEST
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
    aside.write_text(json.dumps(shown, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    aside.replace(path)
    if whole:
        copy.put_manifest(path)
    return path
