"""What can be seen of the bot from outside its processes: in Postgres, and in the broker's queues.

The monitor is a process of its own, because whoever is stuck does not say so.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from kombu.exceptions import KombuError
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app import clock
from app.celery import GENERATION_QUEUES, IO_QUEUES, TRAINING_QUEUES, app
from app.config import VibeBotConfig
from app.monitor import checkpoints
from app.monitor.backlog import Backlog, backlog
from app.monitor.checkpoints import Earned, Reload, Served
from app.reconciliation import ABSENT_READS, MAX_ATTEMPTS
from dbs.models import (
    Bot,
    Capability,
    Draft,
    Event,
    GateVerdict,
    LedgerEntry,
    Loop,
    Post,
    RateWindow,
    Reward,
    TrainingRun,
)
from dbs.session import Database
from dbs.states import DraftState, PostState, RunState

log = structlog.get_logger()

HOUR, DAY, MONTH = timedelta(hours=1), timedelta(days=1), timedelta(days=30)
ROWS_IN_A_ROW = 20  # newest runs and verdicts that are looked at
QUEUES = (*IO_QUEUES, *GENERATION_QUEUES, *TRAINING_QUEUES)
BROKER_SECONDS = 5


@dataclass(frozen=True)
class LoopSeen:
    """A loop's turns. `late` is in seconds of wall time past the moment that its turn was due, 0 while paused."""

    name: str
    paused: bool
    turns: int
    late: float
    error: str | None


@dataclass(frozen=True)
class WindowSeen:
    """What X still allows at one of its end-points."""

    account: str
    endpoint: str
    span: int
    allowed: int
    remaining: int


@dataclass(frozen=True)
class Batches:
    """What the generation node wrote in the last hour of wall time."""

    batches: int
    drafts: int
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Observation:
    """Everything at one moment.

    Attributes:
        at: wall time.
        stopped: why the bot was stopped, None if it was not.
        posts, drafts: how many there are in each state.
        backlog: work that waits, by its name in `app/monitor/backlog.py`.
        lost: posts whose outcome two looks did not settle, so that a person has to.
        spent_day, spent_month: US dollars in 24 hours and 30 days of world time, what is under way at its most.
        requests: of the last hour of world time, by end-point and outcome.
        barred: what X does not let the account do by its answers, with the reason.
        earned: by checkpoint, of the last 24 hours of world time.
        reload: the newest; None before the first.
        refusals: candidates that the gate refused in a row, the newest first.
        failures: training runs that failed in a row, the newest first.
        reward: mean reward of what was rewarded in the last 24 hours of world time; None if nothing was.
        queues: messages that wait in each queue; None if the broker cannot be reached.
    """

    at: datetime
    stopped: str | None
    loops: list[LoopSeen]
    posts: dict[str, int]
    drafts: dict[str, int]
    backlog: dict[str, Backlog]
    lost: int
    spent_day: float
    spent_month: float
    requests: dict[tuple[str, str], int]
    windows: list[WindowSeen]
    barred: dict[str, str]
    served: Served | None
    earned: list[Earned]
    reload: Reload | None
    refusals: int
    failures: int
    training: bool
    reward: float | None
    engagement: float | None
    batches: Batches
    queues: dict[str, int] | None


def observe(db: Database, config: VibeBotConfig) -> Observation:
    """Look at everything once, in one transaction and at the broker.

    Raises:
        sqlalchemy.exc.OperationalError: Postgres cannot be reached.
    """
    bot_id, now = config.bot_id, clock.now()
    with db.transaction() as session:
        bot = session.get_one(Bot, bot_id)
        reward, engagement = session.execute(
            select(func.avg(Reward.reward), func.avg(Reward.engagement)).where(
                Reward.bot_id == bot_id, Reward.computed_at > now - DAY
            )
        ).one()
        runs = _newest(session, TrainingRun.state, TrainingRun.bot_id == bot_id, TrainingRun.started_at)
        verdicts = _newest(session, GateVerdict.passed, GateVerdict.bot_id == bot_id, GateVerdict.judged_at)
        ended = [state for state in runs if state != RunState.RUNNING]
        return Observation(
            at=clock.wall_now(),
            stopped=(bot.stop_reason or "without a reason") if bot.stopped_at else None,
            loops=_loops(session, bot_id, now),
            posts=_states(session, Post, bot_id),
            drafts=_states(session, Draft, bot_id),
            backlog=backlog(session, config, now),
            lost=_lost(session, bot_id),
            spent_day=_spent(session, bot_id, now - DAY),
            spent_month=_spent(session, bot_id, now - MONTH),
            requests=_requests(session, bot_id, now - HOUR),
            windows=_windows(session, config.user_id, now),
            barred=_barred(session, bot_id),
            served=checkpoints.served(session, bot_id),
            earned=checkpoints.earned(session, bot_id, now - DAY),
            reload=checkpoints.last_reload(session, bot_id),
            refusals=_in_a_row(verdicts, False),
            failures=_in_a_row(ended, RunState.FAILED),
            training=RunState.RUNNING in runs,
            reward=reward,
            engagement=engagement,
            batches=_batches(session, bot_id),
            queues=_queues(),
        )


def _loops(session: Session, bot_id: str, now: datetime) -> list[LoopSeen]:
    rows = session.scalars(select(Loop).where(Loop.bot_id == bot_id).order_by(Loop.loop))
    return [
        LoopSeen(
            row.loop,
            row.paused,
            row.turns,
            0.0 if row.paused else max(0.0, clock.wall_seconds(now - row.next_due_at)),
            row.last_error,
        )
        for row in rows
    ]


def _states(session: Session, table: type[Post] | type[Draft], bot_id: str) -> dict[str, int]:
    counted = session.execute(select(table.state, func.count()).where(table.bot_id == bot_id).group_by(table.state))
    every = PostState if table is Post else DraftState
    return {state.value: 0 for state in every} | dict(counted.all())


def _lost(session: Session, bot_id: str) -> int:
    return session.execute(
        select(func.count())
        .select_from(Post)
        .where(
            Post.bot_id == bot_id,
            Post.state == PostState.UNCONFIRMED,
            Post.attempts >= MAX_ATTEMPTS,
            Post.absent_reads >= ABSENT_READS,
        )
    ).scalar_one()


def _spent(session: Session, bot_id: str, since: datetime) -> float:
    cost = func.sum(func.coalesce(LedgerEntry.cost_usd, LedgerEntry.reserved_usd))
    spent = session.execute(select(cost).where(LedgerEntry.bot_id == bot_id, LedgerEntry.at > since)).scalar_one()
    return float(spent or 0)


def _requests(session: Session, bot_id: str, since: datetime) -> dict[tuple[str, str], int]:
    rows = session.execute(
        select(LedgerEntry.endpoint, LedgerEntry.outcome, func.count())
        .where(LedgerEntry.bot_id == bot_id, LedgerEntry.at > since, LedgerEntry.outcome.is_not(None))
        .group_by(LedgerEntry.endpoint, LedgerEntry.outcome)
    )
    return {(endpoint, str(outcome)): count for endpoint, outcome, count in rows}


def _windows(session: Session, account: str, now: datetime) -> list[WindowSeen]:
    """Windows of the account and of the app; one that has ended is full again."""
    rows = session.scalars(
        select(RateWindow)
        .where(RateWindow.account.in_([account, "app"]))
        .order_by(RateWindow.account, RateWindow.endpoint, RateWindow.span_s)
    )
    return [
        WindowSeen(
            row.account,
            row.endpoint,
            row.span_s,
            row.allowed,
            row.remaining if row.resets_at > now else row.allowed,
        )
        for row in rows
    ]


def _barred(session: Session, bot_id: str) -> dict[str, str]:
    rows = session.scalars(
        select(Capability).where(
            Capability.bot_id == bot_id, Capability.granted.is_(False), Capability.source == "response"
        )
    )
    return {row.capability: row.reason or "X gave no reason" for row in rows}


def _batches(session: Session, bot_id: str) -> Batches:
    details = session.scalars(
        select(Event.detail).where(
            Event.bot_id == bot_id, Event.kind == "batch.written", Event.at > clock.wall_now() - HOUR
        )
    ).all()

    def total(name: str) -> float:
        return sum(float(detail[name]) for detail in details)

    return Batches(len(details), int(total("drafts")), int(total("tokens")), total("seconds"))


def _newest(session: Session, column: Any, mine: Any, at: Any) -> list[Any]:
    return list(session.scalars(select(column).where(mine).order_by(at.desc()).limit(ROWS_IN_A_ROW)))


def _in_a_row(values: list[Any], wanted: Any) -> int:
    """How many values from the beginning are the wanted one.

    >>> _in_a_row([False, False, True, False], False)
    2
    """
    return next((i for i, value in enumerate(values) if value != wanted), len(values))


def _queues() -> dict[str, int] | None:
    """Messages that wait in each queue, whatever the broker is."""
    connection = app.connection_for_read()
    try:
        with connection:
            connection.ensure_connection(max_retries=1, timeout=BROKER_SECONDS)
            return {name: _waiting(connection, name) for name in QUEUES}
    except (KombuError, OSError, *connection.connection_errors) as error:
        log.warning("broker.away", error=f"{type(error).__name__}: {error}")
        return None


def _waiting(connection: Any, queue: str) -> int:
    """A channel for each question: RabbitMQ closes one that was asked for a queue that is not there."""
    with connection.channel() as channel:
        try:
            return int(channel.queue_declare(queue=queue, passive=True).message_count)
        except connection.channel_errors:
            return 0  # nobody has sent to it yet; on Redis an empty queue is none
