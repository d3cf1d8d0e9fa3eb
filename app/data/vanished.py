"""What X no longer shows is forgotten: a share of the posts that were read or gathered is asked for, turn by turn."""

from __future__ import annotations

from collections.abc import Iterator

import structlog
from sqlalchemy import func, literal, select, tuple_, union
from sqlalchemy.orm import Session

from app import cursors
from app.config import VibeBotConfig
from app.data import manifest
from app.data.clearing import clear_files
from app.data.forgetting import NOT_SHOWN, forget
from app.loops import PutOff
from app.x.errors import Retryable
from app.x.refusals import NOTHING_SAID
from app.x.requester import BATCH
from app.x_interactor import XInteractor
from dbs.models import DataSet, QuoteComment, TimelinePost
from dbs.session import Database

log = structlog.get_logger()

ASKED_TO = "still_shown"  # the cursor of the posts in tables; that of the files is `data_sets.asked_to`


def forget_vanished(db: Database, x: XInteractor, config: VibeBotConfig) -> int:
    """Ask X for the next `loop.vanished_posts` posts, and forget those that it says it does not show.

    Half of them in files at most, the rest in tables, each in rounds: behind the last the first is next. A post of
    which X says nothing at all is left alone. What an earlier call left in the files is removed first.

    Returns:
        The number of posts forgotten.

    Raises:
        PutOff: X's window or our budget is empty; the turn goes on where it was.
    """
    clear_files(db, config)
    gone = asked = 0
    for step, limit in ((_ask_files, config.loop.vanished_posts // 2), (_ask_tables, config.loop.vanished_posts)):
        while asked < limit:
            try:
                taken, vanished = step(db, x, config, min(BATCH, limit - asked))
            except Retryable as error:
                raise PutOff(error.retry_at, str(error)) from error
            asked, gone = asked + taken, gone + vanished
            if taken < BATCH:
                break  # the end of a round
    clear_files(db, config)
    log.info("vanished.asked", asked=asked, gone=gone)
    return gone


def _ask_tables(db: Database, x: XInteractor, config: VibeBotConfig, most: int) -> tuple[int, int]:
    with db.transaction() as session:
        ids = _next_in_tables(session, config, cursors.at(session, config.bot_id, ASKED_TO) or "0", most)
    vanished = _ask(db, x, config, ids)
    # Only now, so that a killed process asks again. "0" begins the next round.
    with db.transaction() as session:
        cursors.move(session, config.bot_id, ASKED_TO, ids[-1] if len(ids) == most else "0")
    return len(ids), vanished


def _next_in_tables(session: Session, config: VibeBotConfig, after: str, most: int) -> list[str]:
    """Ids of others' posts, the oldest first. They are numbers written as text: of two, the longer is the greater."""
    seen = select(TimelinePost.x_post_id.label("id")).where(
        TimelinePost.bot_id == config.bot_id, TimelinePost.author_id != config.user_id
    )
    ids = union(seen, select(QuoteComment.reply_id).where(QuoteComment.bot_id == config.bot_id)).subquery()
    order = (func.length(ids.c.id), ids.c.id)
    start = tuple_(literal(len(after)), literal(after))
    return list(session.scalars(select(ids.c.id).where(tuple_(*order) > start).order_by(*order).limit(most)))


def _ask_files(db: Database, x: XInteractor, config: VibeBotConfig, most: int) -> tuple[int, int]:
    """The same for the data set, as far as it came from X."""
    with db.transaction() as session:
        row = session.get(DataSet, config.bot_id, with_for_update=True)
        if row is None or row.settings["source"] != "x":
            return 0, 0
        found = manifest.working_copy(config, row).positions(manifest.entries_of(row), row.asked_to)
        records: Iterator[tuple[int, str]] = ((position, record.post_id) for position, record in found)
        # The one after the last is where the next turn begins.
        batch = [item for item, _ in zip(records, range(most + 1), strict=False)]
    vanished = _ask(db, x, config, [x_post_id for _, x_post_id in batch[:most]])
    with db.transaction() as session:
        mine = session.get(DataSet, config.bot_id, with_for_update=True)
        if mine is not None:
            mine.asked_to = batch[most][0] if len(batch) > most else 0
    return len(batch[:most]), vanished


def _ask(db: Database, x: XInteractor, config: VibeBotConfig, ids: list[str]) -> int:
    if not ids:
        return 0
    _, missing = x.get_posts(ids)
    vanished = sorted(x_post_id for x_post_id, reason in missing.items() if reason != NOTHING_SAID)
    if vanished:
        with db.transaction() as session:
            forget(session, config, vanished, NOT_SHOWN)
    return len(vanished)
