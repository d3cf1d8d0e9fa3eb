"""QuotesCommentsDB: what was said about the bot's posts."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence

from sqlalchemy import Boolean, func, literal_column, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from dbs.models import QuoteComment

COLUMNS = (
    "post_id",
    "reply_id",
    "comment",
    "time_of_reply",
    "bot_id",
    "author_id",
    "content",
    "lang",
    "likes",
    "fetched_at",
)


class QuotesCommentsDB:
    """Quotes and comments of one bot's posts. Works within the session's transaction and commits nothing."""

    def __init__(self, session: Session, bot_id: str) -> None:
        self._session = session
        self._bot_id = bot_id

    def upsert(self, rows: Iterable[QuoteComment]) -> int:
        """Store quotes and comments in one statement; of those known, only likes and their time are refreshed.

        Returns:
            The number of rows that were not known before.

        Raises:
            ValueError: a row is another bot's.
        """
        values = {(row.post_id, row.reply_id): {name: getattr(row, name) for name in COLUMNS} for row in rows}
        for row in values.values():
            if row["bot_id"] != self._bot_id:
                raise ValueError(f"row of bot {row['bot_id']!r} given to the connector of {self._bot_id!r}")
        if not values:
            return 0
        new = insert(QuoteComment).values([values[key] for key in sorted(values)])
        inserted = self._session.scalars(
            new.on_conflict_do_update(
                index_elements=[QuoteComment.post_id, QuoteComment.reply_id],
                set_={
                    "likes": func.coalesce(new.excluded.likes, QuoteComment.likes),
                    "fetched_at": new.excluded.fetched_at,
                },
                # xmax is 0 in a row that this statement made, and its transaction in one that it changed.
            ).returning(literal_column("(quotes_comments_db.xmax = 0)", Boolean))
        )
        return sum(inserted)

    def of_post(self, post_id: uuid.UUID) -> list[QuoteComment]:
        """What was said about a post, the oldest first."""
        rows = self._session.scalars(
            select(QuoteComment)
            .where(QuoteComment.post_id == post_id, QuoteComment.bot_id == self._bot_id)
            .order_by(QuoteComment.time_of_reply, QuoteComment.reply_id)
        )
        return list(rows)

    def posts_among(self, post_ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
        """Those of the posts about which something is known to have been said."""
        return set(
            self._session.scalars(
                select(QuoteComment.post_id)
                .where(QuoteComment.bot_id == self._bot_id, QuoteComment.post_id.in_(post_ids))
                .distinct()
            )
        )
