"""The second half of forgetting: out of the data set's files and of the exports. May be killed and run again."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

import structlog
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app import clock, forgotten
from app.config import VibeBotConfig
from app.data import files, manifest
from app.data.filters import Dropped
from app.data.records import Record
from app.shared_files import SharedFiles, shared_files
from app.talk import EXPORTS, write_aside
from dbs.models import DataSet, Engagement, Forgotten, TrainingRun
from dbs.session import Database
from dbs.states import DataSetState, RunKind, RunState

log = structlog.get_logger()


def clear_files(db: Database, config: VibeBotConfig) -> int:
    """Remove from every file what is forgotten and was not removed yet.

    Returns:
        How many subjects are out of the files now that were not before.

    Raises:
        DataFileError: a file of the data set is not what the database says of it. Nothing is marked as cleared.
        SharedFilesError: the same of a file that machines share, or the store does not do what it is asked.
    """
    cleared = _clear(db, config)
    settle(db, config)
    return cleared


def settle(db: Database, config: VibeBotConfig) -> None:
    """Where machines share a store: remove there what no row names, and here what is done with.

    A data set that is complete is only read, and each reader fetches it, so that no machine keeps words that are
    forgotten on another. A jump start that is training here needs its files until it ends.
    """
    if shared_files(config) is None:
        return
    with db.transaction() as session:
        row = session.get(DataSet, config.bot_id, with_for_update=True)
        if row is None:
            return
        copy, entries = manifest.working_copy(config, row), manifest.entries_of(row)
        copy.tidy(entries)
        trains = select(TrainingRun.run_id).where(
            TrainingRun.bot_id == config.bot_id,
            TrainingRun.kind == RunKind.SFT,
            TrainingRun.state == RunState.RUNNING,
        )
        if row.state == DataSetState.COMPLETE and session.scalars(trains).first() is None:
            copy.release(entries)


def _clear(db: Database, config: VibeBotConfig) -> int:
    with db.transaction() as session:
        # Against an export that is being written by whoever measures.
        forgotten.begin(session, config.bot_id)
        waiting = frozenset(
            session.scalars(
                select(Forgotten.subject).where(Forgotten.bot_id == config.bot_id, Forgotten.cleared_at.is_(None))
            )
        )
        if not waiting:
            return 0
        _clear_exports(session, config, waiting)
    with db.transaction() as session:
        _clear_data_set(session, config, waiting)
        session.execute(
            update(Forgotten)
            .where(Forgotten.bot_id == config.bot_id, Forgotten.subject.in_(waiting))
            .values(cleared_at=clock.wall_now())
        )
    log.info("forgotten.cleared", subjects=len(waiting))
    return len(waiting)


def _clear_data_set(session: Session, config: VibeBotConfig, subjects: frozenset[str]) -> None:
    """Under the lock that whoever gathers takes, so that no page is written meanwhile."""
    row = session.get(DataSet, config.bot_id, with_for_update=True)
    if row is None:
        return
    directory, entries = manifest.directory(config), manifest.entries_of(row)
    copy = manifest.working_copy(config, row)
    copy.bring(entries)
    # Of users their posts, too: those in the files may be in no table.
    theirs = {record.post_id for record in files.records(directory, entries) if record.author_id in subjects}
    changed: set[int] = set()
    left = files.rewrite(directory, entries, _without(subjects | theirs), changed)
    row.files = [entry.as_row() for entry in copy.replace(entries, changed)]
    if gone := row.posts - left.posts:
        row.dropped = row.dropped | {Dropped.FORGOTTEN: row.dropped.get(Dropped.FORGOTTEN, 0) + gone}
    row.posts, row.characters = left
    session.flush()
    manifest.export(session, config, whole=True)


def _without(subjects: frozenset[str]) -> Callable[[Record], Record | None]:
    def change(record: Record) -> Record | None:
        if {record.post_id, record.author_id} & subjects:
            return None
        if {record.in_reply_to_post_id, record.parent_author_id} & subjects:
            return replace(record, parent_handle=None, parent_text=None, parent_author_id=None)
        return record

    return change


def _clear_exports(session: Session, config: VibeBotConfig, subjects: frozenset[str]) -> None:
    root, store = Path(config.data_dir), shared_files(config)
    for path in sorted((root / EXPORTS / config.bot_id).glob("*/*.jsonl")):
        if _clear_export(path, subjects) == Cleared.EMPTY:
            path.unlink()
            _unname_export(session, config, str(path.relative_to(root)))
    if store is not None:
        with tempfile.TemporaryDirectory() as scratch:
            _clear_shared_exports(session, config, store, subjects, Path(scratch) / "export.jsonl")


def _clear_shared_exports(
    session: Session, config: VibeBotConfig, store: SharedFiles, subjects: frozenset[str], scratch: Path
) -> None:
    for name in store.below(f"{EXPORTS}/{config.bot_id}"):
        found = _clear_export(scratch, subjects) if store.get(name, scratch) else Cleared.UNTOUCHED
        if found == Cleared.CHANGED:
            store.put(scratch, name)
        elif found == Cleared.EMPTY:
            store.remove(name)
            _unname_export(session, config, name)


class Cleared(StrEnum):
    """What clearing came to for one export."""

    UNTOUCHED = "untouched"
    CHANGED = "changed"
    EMPTY = "empty"


def _clear_export(path: Path, subjects: frozenset[str]) -> Cleared:
    lines = path.read_text(encoding="utf-8").splitlines()
    left = [line for line in lines if not subjects & {json.loads(line)[key] for key in ("reply_id", "author_id")}]
    if not left:
        return Cleared.EMPTY
    if len(left) == len(lines):
        return Cleared.UNTOUCHED
    write_aside(path, left)
    return Cleared.CHANGED


def _unname_export(session: Session, config: VibeBotConfig, relative: str) -> None:
    for column in (Engagement.quotes_filepath, Engagement.comments_filepath):
        session.execute(
            update(Engagement).where(Engagement.bot_id == config.bot_id, column == relative).values({column: None})
        )
