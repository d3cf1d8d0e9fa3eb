"""Running Alembic from Python, as `explorer up` and the tests do. By hand it is `alembic upgrade head`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from alembic import command

ROOT = Path(__file__).parent.parent


class Standing(StrEnum):
    """A database's schema against the one that this code was written for."""

    EMPTY = "empty"
    OLDER = "older"
    SAME = "same"
    UNKNOWN = "unknown"  # made by a newer version, or by something else


def alembic_config(url: str) -> Config:
    config = Config(ROOT / "alembic.ini")
    config.attributes["url"] = url
    return config


def upgrade(url: str, revision: str = "head") -> None:
    command.upgrade(alembic_config(url), revision)


def downgrade(url: str, revision: str = "base") -> None:
    command.downgrade(alembic_config(url), revision)


def check(url: str) -> None:
    """Raise alembic.util.CommandError if the database is not what the models say."""
    command.check(alembic_config(url))


def standing(connection: Connection) -> tuple[Standing, str]:
    """How the schema of a database stands to this code, and the revision it is at (empty if it has none)."""
    scripts = ScriptDirectory.from_config(Config(ROOT / "alembic.ini"))
    found = MigrationContext.configure(connection).get_current_revision()
    if found is None:
        return Standing.EMPTY, ""
    if found == scripts.get_current_head():
        return Standing.SAME, found
    known = {script.revision for script in scripts.walk_revisions()}
    return (Standing.OLDER if found in known else Standing.UNKNOWN), found
