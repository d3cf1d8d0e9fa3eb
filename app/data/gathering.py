"""Gathering the data set: one page of each account by turns until a limit ends it, with money agreed to beforehand."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import structlog

from app import clock, events
from app.config import VibeBotConfig
from app.context import BotContext
from app.data import claims, manifest
from app.data.clearing import settle
from app.data.estimate import CHARACTERS_PER_POST, CHARACTERS_PER_TOKEN, Estimate, estimate
from app.data.history import take_in
from app.data.optin import require_opt_in
from app.data.sources import ArchiveSource, Source, local_source
from app.data.x_source import PAGE, XSource
from app.loading import ConfigError
from app.loops import PutOff
from app.x.errors import BudgetExhausted, CreditsDepleted, Retryable
from dbs.models import DataSet, DataSetAccount
from dbs.states import DataSetState

log = structlog.get_logger()

LONGEST_WAIT = timedelta(minutes=20)  # of wall time; whoever has to wait longer comes back
LOOK_SECONDS = 0.5
REPORT_SECONDS = 0.5  # every account's row is read for it, and there may be thousands
UNKNOWN_WAIT = timedelta(seconds=30)  # of wall time, where X did not say


class ConsentMissingError(ConfigError):
    """Nobody has agreed to what the data set will cost."""


@dataclass(frozen=True)
class Progress:
    """How far gathering is.

    Attributes:
        rate: posts kept a second of wall time, since this process began.
        left: wall time that the rest will take at this rate, None if that is not known yet.
    """

    posts: int
    tokens: int
    usd: float
    accounts_left: int
    rate: float
    left: timedelta | None


@dataclass(frozen=True)
class Gathered:
    """What the data set holds. `complete` is False where a limit has not been reached and there is more to come."""

    directory: Path
    posts: int
    tokens: int
    files: int
    dropped: dict[str, int]
    usd: float
    complete: bool
    reason: str | None


def gather(
    bot: BotContext,
    *,
    agree: Callable[[Estimate], bool] | None = None,
    report: Callable[[Progress], None] | None = None,
    wait: bool = True,
) -> Gathered:
    """Gather posts of the accounts that the bot follows, or of another source, into numbered JSON files.

    One page of each account by turns, until `sft.approximate_tokens`, `sft.max_cost` or the memory limit is reached or
    every account has been read to its end. Files lie in `<data_dir>/jump_start_files/<bot_id>/`.

    Args:
        agree: asked once, with what it will cost at most; without it nothing that costs money is begun.
        report: told at the beginning, and then after a page, but no more than once in `REPORT_SECONDS`.
        wait: whether to wait for X's windows; else they are a PutOff.

    Raises:
        OptInMissingError: the posts are from live X, and `sft.train_on_live_x` is not set.
        ConsentMissingError: it costs money and nobody has agreed.
        ConfigError: the source cannot be used, or the data set was begun with another one.
        PutOff: X or the budget gives no more for now; everything read so far is kept.
    """
    source = open_source(bot)
    gatherer = manifest.Gatherer(bot.db, bot.config)
    try:
        gatherer.repair()
        ask(bot, agree)
        _take_over(bot)
        reason = _gather(bot, source, gatherer, report, wait=wait)
        _end(bot, DataSetState.COMPLETE, reason)
        settle(bot.db, bot.config)
    except PutOff as put_off:
        _end(bot, DataSetState.OPEN, f"waits: {put_off}")
        raise
    finally:
        gatherer.close()
    return gathered(bot)


def open_source(bot: BotContext) -> Source:
    """The source that the config names, with its accounts in the rows of the data set.

    Of an archive the posts become history of the bot too, if it is its own (`app/data/history.py`).

    Raises:
        OptInMissingError, ConfigError: as `generate_jump_start_dataset`.
    """
    config = bot.config
    require_opt_in(config, bot.secrets)
    with bot.db.transaction() as session:
        before_id = manifest.begin(session, config).before_id
    source = XSource(bot.db, bot.x, config, before_id) if config.sft.source == "x" else local_source(config.sft)
    if isinstance(source, ArchiveSource):
        take_in(bot.db, config, source)
    accounts = source.accounts()
    if not accounts:
        raise ConfigError("no account of accounts_to_follow is known at X yet; the community is loaded first")
    with bot.db.transaction() as session:
        manifest.enrol(session, config.bot_id, accounts)
    return source


def gathered(bot: BotContext) -> Gathered:
    """What the data set holds now.

    Raises:
        ConfigError: there is none.
    """
    with bot.db.transaction() as session:
        row = manifest.find(session, bot.config.bot_id)
        if row is None:
            raise ConfigError("there is no data set yet; `explorer data-set` gathers one")
        return Gathered(
            directory=manifest.directory(bot.config),
            posts=row.posts,
            tokens=row.characters // CHARACTERS_PER_TOKEN,
            files=len(row.files),
            dropped=dict(row.dropped),
            usd=float(row.usd),
            complete=row.state == DataSetState.COMPLETE,
            reason=row.reason,
        )


def limit_reached(config: VibeBotConfig, row: DataSet, page_usd: float, under_way: int = 0) -> str | None:
    """Which limit forbids another page; None if none does.

    Args:
        page_usd: the most that a page can cost.
        under_way: pages that others are reading; each counts with the most it can cost, and an average page's words.
    """
    sft = config.sft
    coming = under_way * PAGE * (row.characters / row.posts if row.posts else CHARACTERS_PER_POST)
    if (row.characters + coming) // CHARACTERS_PER_TOKEN >= sft.approximate_tokens:
        return f"sft.approximate_tokens={sft.approximate_tokens} is reached"
    if page_usd and float(row.usd) + (under_way + 1) * page_usd > sft.max_cost:
        return f"another page could pass sft.max_cost=${sft.max_cost:g}, of which ${float(row.usd):.2f} is spent"
    if (used := resident_gb()) > sft.max_memory_gb:
        return f"{used:.2f} GB of memory are in use, sft.max_memory_gb={sft.max_memory_gb:g} are allowed"
    return None


def resident_gb() -> float:
    """The memory that this process has resident now, in GB; not the most that it ever had, for other work than this."""
    return float(psutil.Process().memory_info().rss) / 1e9


def _gather(
    bot: BotContext,
    source: Source,
    gatherer: manifest.Gatherer,
    report: Callable[[Progress], None] | None,
    *,
    wait: bool,
) -> str:
    bot_id = bot.config.bot_id
    meter: Meter | None = None
    next_report = 0.0
    while True:
        with bot.db.transaction() as session:
            row = session.get_one(DataSet, bot_id)
            account, under_way = claims.next_account(session, bot_id), claims.under_way(session, bot_id)
        if report and time.monotonic() >= next_report:
            meter = meter or Meter(bot.config, row)
            with bot.db.transaction() as session:
                accounts = manifest.accounts(session, bot_id)
            report(meter.read(row, accounts))
            next_report = time.monotonic() + REPORT_SECONDS
        reason = "every account is read to its end"
        if account is not None:
            reason = limit_reached(bot.config, row, source.page_usd(), under_way) or ""
        if account is None or reason:
            if not under_way:
                return reason
            time.sleep(LOOK_SECONDS)  # workers from which this was taken over still have pages in their hands
            continue
        try:
            page = source.page(account.account, account.cursor, account.read)
        except Retryable as error:
            _wait_or_put_off(error, wait=wait)
            continue
        gatherer.take(account, page)


def _wait_or_put_off(error: Retryable, *, wait: bool) -> None:
    """Sleep until X takes requests again, if that is soon.

    Raises:
        PutOff: it is not, or a person has to do something first.
    """
    until: datetime = error.retry_at or clock.now() + UNKNOWN_WAIT * clock.speed()
    pause = timedelta(seconds=clock.wall_seconds(until - clock.now()))
    if not wait or pause > LONGEST_WAIT or isinstance(error, BudgetExhausted | CreditsDepleted):
        raise PutOff(error.retry_at, str(error)) from error
    log.info("data_set.waits", seconds=round(pause.total_seconds()), reason=str(error))
    time.sleep(max(0.05, pause.total_seconds()))


def ask(bot: BotContext, agree: Callable[[Estimate], bool] | None) -> None:
    """Say what it will cost and have it agreed to, unless that was done, or it costs nothing.

    Raises:
        ConsentMissingError: nobody agrees.
    """
    if bot.config.sft.source != "x":
        return
    with bot.db.transaction() as session:
        row = session.get_one(DataSet, bot.config.bot_id)
        expected = estimate(bot.config, row, manifest.accounts(session, bot.config.bot_id))
        agreed = row.agreed
    if agreed is not None and expected.usd + float(row.usd) <= agreed["usd"] * 1.001:
        return
    if agree is None or not agree(expected):
        raise ConsentMissingError(f"nobody has agreed to the data set: {expected}; agree with --yes")
    with bot.db.transaction() as session:
        row = session.get_one(DataSet, bot.config.bot_id, with_for_update=True)
        row.agreed = expected.as_dict() | {"usd": expected.usd + float(row.usd)}
        events.record(session, bot.config.bot_id, "data_set.agreed", **expected.as_dict())


def _take_over(bot: BotContext) -> None:
    """From here on the I/O workers take no new page: whoever called has asked for this process to do it."""
    with bot.db.transaction() as session:
        session.get_one(DataSet, bot.config.bot_id, with_for_update=True).by_workers = False


def _end(bot: BotContext, state: DataSetState, reason: str) -> None:
    with bot.db.transaction() as session:
        manifest.end(session, bot.config, state, reason)
    log.info("data_set.ended", state=state.value, reason=reason)


class Meter:
    """Rate and time left, from what this process has seen."""

    def __init__(self, config: VibeBotConfig, row: DataSet) -> None:
        self._config = config
        self._began, self._posts = time.monotonic(), row.posts

    def read(self, row: DataSet, accounts: list[DataSetAccount]) -> Progress:
        seconds = time.monotonic() - self._began
        rate = (row.posts - self._posts) / seconds if seconds > 0 else 0.0
        rest = estimate(self._config, row, accounts)
        return Progress(
            posts=row.posts,
            tokens=row.characters // CHARACTERS_PER_TOKEN,
            usd=float(row.usd),
            accounts_left=rest.accounts,
            rate=rate,
            left=timedelta(seconds=rest.posts / rate) if rate > 0 else None,
        )
