"""Gathering by the I/O workers: pages of different accounts side by side, each a message of its own.

`hand_out` claims pages, fewest turns first, and whoever called it sends one message for each; `read_page` is what a
worker does with one. A worker hands out again after each page, and every tick of the community's loop does too, which
is what brings back a page whose message or worker was lost. Storing stays one page at a time (`app/data/manifest.py`).
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from datetime import datetime

import structlog
from sqlalchemy.orm import Session

from app import clock, events, loops
from app.context import BotContext
from app.data import claims, files, manifest
from app.data.estimate import Estimate
from app.data.gathering import (
    LONGEST_WAIT,
    LOOK_SECONDS,
    Gathered,
    Meter,
    Progress,
    ask,
    gathered,
    limit_reached,
    open_source,
)
from app.data.optin import require_opt_in
from app.data.sources import SourcePage
from app.data.x_source import XSource
from app.loading import ConfigError
from app.loops import PutOff
from app.schedule import LoopName
from app.x.errors import Retryable
from dbs.models import DataSet, DataSetAccount
from dbs.states import DataSetState

log = structlog.get_logger()

# More than X's windows let through: a page takes a second or two, and the widest window allows one a second.
PAGES_AT_ONCE = 16
ASK_AGAIN_SECONDS = 120.0  # after which a kick-off that sees nothing happen sends another message


def gather_by_workers(
    bot: BotContext,
    send: Callable[[], None],
    *,
    agree: Callable[[Estimate], bool] | None = None,
    report: Callable[[Progress], None] | None = None,
    say: Callable[[str], None],
) -> Gathered:
    """Have the I/O workers gather the data set, and watch until it is whole. They go on if this process ends.

    Args:
        send: puts the task that hands out pages into its queue.
        agree, report: as for `gather`.
        say: told, in words, what is waited for.

    Raises:
        OptInMissingError, ConsentMissingError, ConfigError: as `gather`.
        PutOff: X's window or the budget is empty for longer than is waited here; the workers go on when it is not.
    """
    open_source(bot)
    ask(bot, agree)
    with bot.db.transaction() as session:
        row = session.get_one(DataSet, bot.config.bot_id, with_for_update=True)
        row.state, row.reason, row.by_workers, row.waits_until = DataSetState.OPEN, None, True, None
    meter, said, asked = Meter(bot.config, row), "", None
    while row.state == DataSetState.OPEN:
        if asked is None or time.monotonic() - asked > ASK_AGAIN_SECONDS:
            say("data_set: asked for; the I/O workers take it when they are free")
            send()
            asked = time.monotonic()
        time.sleep(LOOK_SECONDS)
        seen = row.updated_at
        with bot.db.transaction() as session:
            row = session.get_one(DataSet, bot.config.bot_id)
            accounts = manifest.accounts(session, bot.config.bot_id)
        if row.updated_at != seen:
            asked = time.monotonic()
        if report:
            report(meter.read(row, accounts))
        if row.reason and row.reason != said and row.state == DataSetState.OPEN:
            said = row.reason
            say(f"data_set: {said}")
            if _agreed_anew(bot, row, agree):
                asked = None
        _give_up_if_long(row)
    return gathered(bot)


def _agreed_anew(bot: BotContext, row: DataSet, agree: Callable[[Estimate], bool] | None) -> bool:
    """Whether what was agreed to is spent, and more is agreed to now."""
    if row.agreed is not None and float(row.usd) < row.agreed["usd"]:
        return False
    ask(bot, agree)
    with bot.db.transaction() as session:
        now = session.get_one(DataSet, bot.config.bot_id, with_for_update=True)
        if now.agreed == row.agreed:
            return False
        now.waits_until = None
    return True


def _give_up_if_long(row: DataSet) -> None:
    """Raises PutOff where nothing will come for long, or not from the workers."""
    if row.state == DataSetState.OPEN and not row.by_workers:
        raise PutOff(None, "another process has taken over the data set")
    if row.waits_until is not None and clock.wall_seconds(row.waits_until - clock.now()) > LONGEST_WAIT.total_seconds():
        raise PutOff(
            row.waits_until, f"{row.reason}; the I/O workers go on at {row.waits_until:%F %T} UTC (world time)"
        )


def hand_out(bot: BotContext) -> list[uuid.UUID]:
    """Claim the pages that may be read now, as many as `PAGES_AT_ONCE` leave room for, of whoever had the fewest turns.

    Where nothing is left to be read, or a limit is reached, the data set ends here. No account gets more than
    `PAGES_AT_ONCE` turns ahead of another that has more, not even of one whose worker has died.

    Returns:
        The claims; each wants a message, with which a worker calls `read_page`.
    """
    with bot.db.transaction() as session:
        row = session.get(DataSet, bot.config.bot_id)
    if not _is_ours(row):
        _PAGES.close()
        return []
    try:
        with bot.db.transaction() as session:
            row = session.get(DataSet, bot.config.bot_id, with_for_update=True)
            if row is None or not _may_go_on(session, bot, row):
                return []
            return _hand_out(session, bot, row)
    except (ConfigError, files.DataFileError) as error:
        # A config that was changed meanwhile, or a file that is gone: neither is an end of the data set.
        _hold(bot, None, str(error))
        return []


def _hand_out(session: Session, bot: BotContext, row: DataSet) -> list[uuid.UUID]:
    bot_id = bot.config.bot_id
    page_usd = XSource(bot.db, bot.x, bot.config, row.before_id).page_usd()
    busy, fewest = claims.under_way(session, bot_id), claims.fewest_turns(session, bot_id)
    reason = limit_reached(bot.config, row, page_usd)
    if fewest is None or reason is not None:
        if not busy:
            _end(session, bot, row, reason or "every account is read to its end")
        return []
    if not busy and not _is_agreed(row, page_usd, 0):
        raise ConfigError(f"what was agreed to is spent, ${float(row.usd):.2f}; `explorer kickoff` asks for more")
    claimed: list[uuid.UUID] = []
    while (under_way := busy + len(claimed)) < PAGES_AT_ONCE:
        account = claims.next_account(session, bot_id, most_turns=fewest + PAGES_AT_ONCE)
        if account is None or limit_reached(bot.config, row, page_usd, under_way) is not None:
            break
        if not _is_agreed(row, page_usd, under_way):
            break
        claimed.append(claims.claim(account))
        session.flush()
    if claimed:
        row.reason = row.waits_until = None
    return claimed


def _is_agreed(row: DataSet, page_usd: float, under_way: int) -> bool:
    """Whether what was agreed to is not spent yet, with all that is under way. The last page may pass it by a part."""
    if not page_usd:
        return True
    return row.agreed is not None and float(row.usd) + under_way * page_usd < row.agreed["usd"]


def _is_ours(row: DataSet | None) -> bool:
    return row is not None and row.by_workers and row.state == DataSetState.OPEN


def _may_go_on(session: Session, bot: BotContext, row: DataSet) -> bool:
    """Whether pages may be read now. Where machines share files by a store, one process gathers: it cannot append.

    Raises:
        ConfigError: the config is not that with which the data set was begun, or does not allow it any more.
    """
    waits = row.waits_until is not None and row.waits_until > clock.now()
    if (
        bot.config.shared_url is not None
        or not _is_ours(row)
        or waits
        or loops.is_paused(session, bot.config.bot_id, LoopName.COMMUNITY)
    ):
        return False
    require_opt_in(bot.config, bot.secrets)
    manifest.require_same_settings(row, bot.config)
    return True


def _end(session: Session, bot: BotContext, row: DataSet, reason: str) -> None:
    # Of a worker that was killed while it wrote there may be something behind the bytes that count.
    files.repair(manifest.directory(bot.config), manifest.entries_of(row), bot.config.sft.file_bytes)
    manifest.end(session, bot.config, DataSetState.COMPLETE, reason)
    log.info("data_set.ended", state=DataSetState.COMPLETE.value, reason=reason)


def read_page(bot: BotContext, claim_id: uuid.UUID) -> bool:
    """Read the page that a message was sent for, and store it.

    Returns:
        Whether it was stored. Where it was not, it is read another time.
    """
    account: DataSetAccount | None = None
    try:
        _PAGES.catch_up(bot)
        with bot.db.transaction() as session:
            account = claims.begin(session, bot.config.bot_id, claim_id)
            if account is None:
                return False
            row = session.get_one(DataSet, bot.config.bot_id)
            if not _may_go_on(session, bot, row):
                claims.release(session, account)
                return False
        page = XSource(bot.db, bot.x, bot.config, row.before_id).page(account.account, account.cursor, account.read)
        stored = _PAGES.take(bot, account, page)
    except Retryable as error:
        _hold(bot, account, f"waits: {error}", error.retry_at)
        return False
    except Exception as error:
        _hold(bot, account, f"failed: {type(error).__name__}: {error}")
        raise
    log.info("data_set.page", account=account.account, turn=account.turns, posts=page.read, stored=stored)
    return stored


def _hold(bot: BotContext, account: DataSetAccount | None, reason: str, until: datetime | None = None) -> None:
    """Let the workers ask for no page before a moment of world time, and say why in the row."""
    until = until or clock.now() + loops.RETRY_AFTER
    with bot.db.transaction() as session:
        row = session.get(DataSet, bot.config.bot_id, with_for_update=True)
        if account is not None:
            claims.release(session, account)
        if row is None or not _is_ours(row):
            return
        if row.reason != reason:
            events.record(session, bot.config.bot_id, "data_set.held", reason=reason, until=until.isoformat())
        row.reason, row.waits_until = reason, until
    log.info("data_set.held", reason=reason, until=until.isoformat())


class _Pages:
    """Stores the pages that the threads of this process have read, one at a time: they share one index of likeness."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gatherer: manifest.Gatherer | None = None
        self._of: tuple[str, datetime] | None = None

    def catch_up(self, bot: BotContext) -> None:
        """Before a page is paid for, and without the lock on the data set: after a restart it may take a while."""
        with self._lock:
            gatherer = self._current(bot)
            if gatherer is not None:
                gatherer.catch_up()

    def take(self, bot: BotContext, account: DataSetAccount, page: SourcePage) -> bool:
        with self._lock:
            gatherer = self._current(bot)
            return gatherer is not None and gatherer.take(account, page)

    def close(self) -> None:
        with self._lock:
            self._close()

    def _current(self, bot: BotContext) -> manifest.Gatherer | None:
        """That of the data set as it is now; it may have been begun anew."""
        with bot.db.transaction() as session:
            row = session.get(DataSet, bot.config.bot_id)
        wanted = (bot.config.bot_id, row.begun_at) if row is not None else None
        if self._of != wanted:
            self._close()
            self._of = wanted
            self._gatherer = manifest.Gatherer(bot.db, bot.config) if wanted is not None else None
        return self._gatherer

    def _close(self) -> None:
        if self._gatherer is not None:
            self._gatherer.close()
        self._gatherer = self._of = None


_PAGES = _Pages()  # one for each process, because the index takes memory
