"""The base of all models and the column shapes that they share.

Comments on tables and columns are the one place where the schema is explained: they are stored in the
database, and `dbs/readme.md` is generated from them.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, MetaData, Text, Uuid
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own protocol
        datetime: DateTime(timezone=True),
        str: Text(),
        uuid.UUID: Uuid(),
    }


def bot_id(*, primary_key: bool = False) -> Mapped[str]:
    """The bot that a row belongs to."""
    return mapped_column(
        ForeignKey("bots.bot_id", ondelete="CASCADE"),
        primary_key=primary_key,
        comment="The bot this row belongs to.",
    )


def one_of(column: str, states: type[StrEnum]) -> CheckConstraint:
    """A check that a text column holds a value of an enumeration. Cheaper to extend than a native enum."""
    values = ", ".join(f"'{state.value}'" for state in states)
    return CheckConstraint(f"{column} IN ({values})", name=f"{column}_known")


def new_id() -> uuid.UUID:
    return uuid.uuid4()


JSONObject = dict[str, Any]
