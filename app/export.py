"""Everything that is known of one bot as JSONL, a file per table: for a notebook, a backup to read, or a move."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Table, select
from sqlalchemy.orm import Session

from dbs.models import Bot, Membership
from dbs.models.access import SECRET
from dbs.models.base import Base

ROWS_AT_A_TIME = 1000


class ExportError(ValueError):
    """An export that cannot be made. The message says why and what to do."""


def tables(names: Sequence[str]) -> list[Table]:
    """The tables of these names, or all where none is named; what opens X is in none of them.

    Raises:
        ExportError: there is no such table.
    """
    known = {table.name: table for table in Base.metadata.sorted_tables if SECRET not in table.info}
    if unknown := sorted(set(names) - known.keys()):
        raise ExportError(f"table: got {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return [table for name, table in known.items() if not names or name in names]


def export(session: Session, bot_id: str, directory: Path, names: Sequence[str] = ()) -> dict[str, int]:
    """Write the bot's rows, each table into `TABLE.jsonl`; memory stays flat. A file is there whole or not at all.

    The session should read one moment (`REPEATABLE READ`), so that the files fit together.

    Returns:
        How many rows each file has.

    Raises:
        ExportError: there is no such table, or a file is there already.
    """
    wanted = tables(names)
    directory.mkdir(parents=True, exist_ok=True)
    if there := [table.name for table in wanted if (directory / f"{table.name}.jsonl").exists()]:
        raise ExportError(f"out: {directory} has {there[0]}.jsonl already; name an empty directory")
    return {table.name: _write(session, bot_id, table, directory / f"{table.name}.jsonl") for table in wanted}


def _write(session: Session, bot_id: str, table: Table, file: Path) -> int:
    """By the row, where `app/measuring.py` writes a post's few answers at once: a table may be larger than memory."""
    aside, count = file.with_suffix(".partial"), 0
    try:
        with aside.open("w", encoding="utf-8") as output:
            for row in _rows(session, bot_id, table):
                output.write(json.dumps(row, default=_plain, ensure_ascii=False) + "\n")
                count += 1
            output.flush()
            os.fsync(output.fileno())
        aside.rename(file)
    finally:
        aside.unlink(missing_ok=True)
    return count


def _rows(session: Session, bot_id: str, table: Table) -> Iterator[dict[str, Any]]:
    statement = select(table).order_by(*table.primary_key.columns)
    if "bot_id" in table.c:
        statement = statement.where(table.c.bot_id == bot_id)
    elif "user_id" in table.c:  # profiles are shared between bots: those of its community
        mine = select(Membership.user_id).where(Membership.bot_id == bot_id)
        statement = statement.where(table.c.user_id.in_(mine))
    elif "account" in table.c:  # windows are an account's, or the app's
        account = select(Bot.user_id).where(Bot.bot_id == bot_id).scalar_subquery()
        statement = statement.where(table.c.account.in_([account, "app"]))
    stream = session.execute(statement, execution_options={"yield_per": ROWS_AT_A_TIME})
    for row in stream.mappings():
        yield dict(row)


def _plain(value: object) -> object:
    match value:
        case datetime():
            return value.isoformat()
        case UUID():
            return str(value)
        case Decimal():
            return str(value)  # money keeps its digits
    raise TypeError(f"{type(value).__name__} has no place in JSON")
