"""Turns: when each loop of a bot runs, claimed in Postgres.

Beat only sends ticks. Whoever receives one claims the turn by moving `next_due_at` in one statement, so a second
beat or a second worker doubles nothing, a restarted beat delays nothing, and a pause survives restarts.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app import clock, events
from app.config import VibeBotConfig
from app.schedule import LoopName, interval
from dbs.models import Loop
from dbs.session import Database

log = structlog.get_logger()

# A turn that failed, or was put off without a time, is due again after this (or its interval, if that is shorter).
RETRY_AFTER = timedelta(minutes=5)


class PutOff(Exception):
    """A turn could not do its work yet. `until` is the world time to come back at, None if nobody knows."""

    def __init__(self, until: datetime | None, reason: str) -> None:
        super().__init__(reason)
        self.until = until


def ensure(session: Session, config: VibeBotConfig) -> None:
    """Give the bot a row for each loop it does not have yet, due at once. PPO first lets posts mature."""
    now = clock.now()
    rows = [
        {
            "bot_id": config.bot_id,
            "loop": loop.value,
            "next_due_at": now + (interval(loop, config.loop) if loop is LoopName.PPO else timedelta()),
            "paused": False,
            "turns": 0,
        }
        for loop in LoopName
    ]
    session.execute(insert(Loop).values(rows).on_conflict_do_nothing())


def claim(session: Session, bot_id: str, loop: LoopName, every: timedelta, *, by_hand: bool) -> bool:
    """Take the turn if it is due, or in any case if a person asks; never while the loop is paused."""
    now = clock.now()
    statement = (
        update(Loop)
        .where(Loop.bot_id == bot_id, Loop.loop == loop.value, Loop.paused.is_(False))
        .values(next_due_at=now + every, started_at=clock.wall_now())
        .returning(Loop.loop)
    )
    if not by_hand:
        statement = statement.where(Loop.next_due_at <= now)
    return session.execute(statement).scalar_one_or_none() is not None


def run_turn(
    db: Database, config: VibeBotConfig, loop: LoopName, work: Callable[[], int], *, by_hand: bool
) -> int | None:
    """Claim a turn, do its work, and record how it went.

    Returns:
        What `work` returned (a count of things done), or None if the turn was not ours to take.
    """
    with db.transaction() as session:
        claimed = claim(session, config.bot_id, loop, interval(loop, config.loop), by_hand=by_hand)
    if not claimed:
        if by_hand:
            log.warning("turn.paused", loop=loop.value)
        return None
    retry_at = clock.now() + min(RETRY_AFTER, interval(loop, config.loop))
    try:
        done = work()
    except PutOff as put_off:
        until = put_off.until or retry_at
        _finish(db, config.bot_id, loop, due_at=until)
        log.info("turn.put_off", loop=loop.value, until=until.isoformat(), reason=str(put_off))
        return 0
    except BaseException as error:
        _finish(db, config.bot_id, loop, error=f"{type(error).__name__}: {error}", due_at=retry_at)
        raise
    _finish(db, config.bot_id, loop)
    log.info("turn.done", loop=loop.value, done=done)
    return done


def _finish(
    db: Database, bot_id: str, loop: LoopName, *, error: str | None = None, due_at: datetime | None = None
) -> None:
    """Record how a turn ended; one that did its work has no `due_at`, because the claim has set it."""
    with db.transaction() as session:
        row = session.scalars(select(Loop).where(Loop.bot_id == bot_id, Loop.loop == loop.value)).one()
        row.finished_at = clock.wall_now()
        row.last_error = error
        row.turns += due_at is None
        if error is not None:
            events.record(session, bot_id, "turn.failed", loop.value, error=error)
        if due_at is not None:
            row.next_due_at = due_at


def pause(session: Session, bot_id: str, reason: str, loops: list[LoopName] | None = None) -> None:
    """Refuse turns of these loops (of all, if none is named) until `resume`."""
    _set_paused(session, bot_id, loops, paused=True, reason=reason)


def resume(session: Session, bot_id: str, loops: list[LoopName] | None = None) -> None:
    _set_paused(session, bot_id, loops, paused=False, reason=None)


def is_paused(session: Session, bot_id: str, loop: LoopName) -> bool:
    """Whether a person holds the loop; a bot that has no such loop is not held."""
    return bool(session.scalar(select(Loop.paused).where(Loop.bot_id == bot_id, Loop.loop == loop.value)))


def _set_paused(
    session: Session, bot_id: str, loops: list[LoopName] | None, *, paused: bool, reason: str | None
) -> None:
    names = [loop.value for loop in loops or LoopName]
    session.execute(
        update(Loop).where(Loop.bot_id == bot_id, Loop.loop.in_(names)).values(paused=paused, paused_reason=reason)
    )
    events.record(session, bot_id, "loops.paused" if paused else "loops.resumed", loops=names, reason=reason)
