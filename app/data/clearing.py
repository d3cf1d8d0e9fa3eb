"""The second half of forgetting: out of the data set's files and of the exports. May be killed and run again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import structlog
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app import clock, forgotten
from app.config import VibeBotConfig
from app.data import files, manifest
from app.data.filters import Dropped
from app.data.records import Record
from app.talk import EXPORTS, write_aside
from dbs.models import DataSet, Engagement, Forgotten
from dbs.session import Database

log = structlog.get_logger()


def clear_files(db: Database, config: VibeBotConfig) -> int:
    """Remove from every file what is forgotten and was not removed yet.

    Returns:
        How many subjects are out of the files now that were not before.

    Raises:
        DataFileError: a file of the data set is not what the database says of it. Nothing is marked as cleared.
    """
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
    files.check(directory, entries)
    # Of users their posts, too: those in the files may be in no table.
    theirs = {record.post_id for record in files.records(directory, entries) if record.author_id in subjects}
    left = files.rewrite(directory, entries, _without(subjects | theirs))
    if gone := row.posts - left.posts:
        row.dropped = row.dropped | {Dropped.FORGOTTEN: row.dropped.get(Dropped.FORGOTTEN, 0) + gone}
    row.posts, row.characters = left
    session.flush()
    manifest.export(session, config)


def _without(subjects: frozenset[str]) -> Callable[[Record], Record | None]:
    def change(record: Record) -> Record | None:
        if {record.post_id, record.author_id} & subjects:
            return None
        if {record.in_reply_to_post_id, record.parent_author_id} & subjects:
            return replace(record, parent_handle=None, parent_text=None, parent_author_id=None)
        return record

    return change


def _clear_exports(session: Session, config: VibeBotConfig, subjects: frozenset[str]) -> None:
    root = Path(config.data_dir)
    for path in sorted((root / EXPORTS / config.bot_id).glob("*/*.jsonl")):
        lines = path.read_text(encoding="utf-8").splitlines()
        left = [line for line in lines if not subjects & {json.loads(line)[key] for key in ("reply_id", "author_id")}]
        if left and len(left) < len(lines):
            write_aside(path, left)
        elif not left:
            path.unlink()
            relative = str(path.relative_to(root))
            for column in (Engagement.quotes_filepath, Engagement.comments_filepath):
                session.execute(
                    update(Engagement)
                    .where(Engagement.bot_id == config.bot_id, column == relative)
                    .values({column: None})
                )
