"""What tests of the author share: making one, posts for it to read, and what became of them."""

from __future__ import annotations

import random

from factories import give_seen
from sqlalchemy import select

from app.config import VibeBotConfig
from app.policy.author import Author
from dbs.models import Draft, TimelinePost


def make(config, database, model, seed: int = 1) -> Author:
    return Author(config, database, model=model, chooser=random.Random(seed))


def with_loop(config: VibeBotConfig, **changes) -> VibeBotConfig:
    return config.model_copy(update={"loop": config.loop.model_copy(update=changes)})


def see(database, count: int, first: int = 100, authors: int = 10, **changes) -> None:
    with database.transaction() as session:
        for number in range(first, first + count):
            give_seen(
                session,
                str(number),
                str(number % authors),
                text=f"Post {number} about trams " * (number % 7),
                **changes,
            )


def states(database) -> dict[str, str]:
    with database.transaction() as session:
        return dict(session.execute(select(TimelinePost.x_post_id, TimelinePost.state)).all())


def drafts(database) -> list[Draft]:
    with database.transaction() as session:
        return list(session.scalars(select(Draft).order_by(Draft.created_at)))


def accept_everything(monkeypatch) -> None:
    """A random model's text passes no rule; some tests are about what happens to one that does."""
    monkeypatch.setattr("app.policy.writer.check_text", lambda *_, **__: None)
