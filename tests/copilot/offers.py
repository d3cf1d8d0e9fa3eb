"""Drafts that are offered to a person, what becomes of them, and the rows that say so."""

from __future__ import annotations

import uuid
from datetime import timedelta

from factories import give_offer
from sqlalchemy import select, update

from app import clock, copilot
from app.config import VibeBotConfig
from dbs.models import Checkpoint, Draft, Post, Preference
from dbs.session import Database

ONE, OTHER = "Which bridge is it, and since when?", "I saw it from the mill at 3:40."


def offer(
    database: Database, checkpoint: Checkpoint, x_post_id: str = "55", *texts: str, **seen: object
) -> list[Draft]:
    with database.transaction() as session:
        return list(give_offer(session, checkpoint, x_post_id, *(texts or (ONE, OTHER)), **seen))


def choose(database: Database, config: VibeBotConfig, draft: Draft, said: str | None = None) -> uuid.UUID:
    with database.transaction() as session:
        return copilot.choose(session, config, draft.draft_id, said or draft.content, by="console").post_id


def row(database: Database, post_id: uuid.UUID) -> Post:
    with database.transaction() as session:
        return session.get_one(Post, post_id)


def draft_of(database: Database, like: Draft) -> Draft:
    with database.transaction() as session:
        return session.get_one(Draft, like.draft_id)


def preference(database: Database) -> Preference:
    with database.transaction() as session:
        return session.scalars(select(Preference)).one()


def due_now(database: Database, **changes: object) -> None:
    with database.transaction() as session:
        session.execute(update(Post).values(due_at=clock.now() - timedelta(seconds=1), **changes))
