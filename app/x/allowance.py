"""Windows and money: what a request may use is reserved before it leaves, and settled when its answer is in.

Both are short transactions that lock the bot's row (so that two workers never spend the same dollar, and what is under
way stands still while it is counted) and the windows of the end-point (so that they never use the same request);
nothing is locked while the request is under way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Protocol

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app import clock
from app.config import BudgetConfig
from app.x import windows
from app.x.endpoints import Endpoint
from app.x.errors import BudgetExhausted
from app.x.limits import limits_of
from app.x.refusals import next_day, next_month
from dbs.models import Bot, LedgerEntry, SpentDay
from dbs.session import Database

DRY = "dry"
# No request is under way for longer, in wall time: beyond it, the process that made it is dead.
LONGEST_REQUEST = timedelta(minutes=2)


@dataclass(frozen=True)
class Reservation:
    """What was set aside for one request. `entry_id` is its row in the ledger, None where there is no ledger."""

    endpoint: Endpoint
    at: datetime
    usd: Decimal
    entry_id: int | None = None


@dataclass(frozen=True)
class Settlement:
    """What came of one request."""

    outcome: str
    cost: Decimal
    units: int
    status: int | None
    wall_ms: float
    headers: Mapping[str, str] = field(default_factory=dict)
    delivered: bool = True
    refused_until: datetime | None = None


class Allowance(Protocol):
    """Whether a request may be made, and what it came to."""

    def reserve(self, endpoint: Endpoint, usd: Decimal, spare: int = 0) -> Reservation:
        """Set aside one request and the most it could cost.

        Args:
            spare: requests that must be left in each window for what is more urgent.

        Raises:
            RateLimited: a window is empty.
            BudgetExhausted: a cap of the day or the month could be passed.
        """

    def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        """Write down what the request came to, and learn from its headers."""

    def record_dry(self, endpoint: Endpoint) -> None:
        """Write down that a request was not made because the bot is not live."""


class Unlimited:
    """The allowance of a bot without a database: X alone says no."""

    def reserve(self, endpoint: Endpoint, usd: Decimal, spare: int = 0) -> Reservation:  # noqa: ARG002 - nothing ends
        return Reservation(endpoint, clock.now(), usd)

    def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        """Nothing to write it into."""

    def record_dry(self, endpoint: Endpoint) -> None:
        """Nothing to write it into."""


class SharedAllowance:
    """The allowance that all workers of a bot share through PostgreSQL."""

    def __init__(self, db: Database, bot_id: str, account: str, budget: BudgetConfig) -> None:
        self._db = db
        self._bot_id = bot_id
        self._account = account
        self._budget = budget

    def reserve(self, endpoint: Endpoint, usd: Decimal, spare: int = 0) -> Reservation:
        limits = limits_of(self._budget.tier, endpoint)
        with self._db.transaction() as session:
            self._lock_bot(session)
            now = clock.now()  # only now: waiting for the lock takes time
            self._check_budget(session, endpoint, usd, now)
            under_way = self._under_way(session, endpoint, now)
            windows.take(session, self._account, endpoint, limits, now=now, under_way=under_way, spare=spare)
            entry = LedgerEntry(bot_id=self._bot_id, endpoint=endpoint, at=now, reserved_usd=usd)
            session.add(entry)
            session.flush()
            self._book(session, now, usd)
            return Reservation(endpoint, now, usd, entry.entry_id)

    def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        endpoint, account = reservation.endpoint, self._account
        with self._db.transaction() as session:
            entry = session.get_one(LedgerEntry, reservation.entry_id)
            entry.cost_usd = settlement.cost
            entry.units = settlement.units
            entry.status = settlement.status
            entry.outcome = settlement.outcome
            entry.wall_ms = settlement.wall_ms
            session.flush()
            # A request reserved between counting what is under way and correcting the windows would be in neither.
            self._lock_bot(session)
            self._book(session, reservation.at, settlement.cost - reservation.usd)
            now = clock.now()
            if not settlement.delivered:
                windows.give_back(session, account, endpoint, reservation.at, now)
                return
            told = windows.readings(settlement.headers)
            if told:
                under_way = self._under_way(session, endpoint, now)
                windows.correct(session, account, endpoint, told, now=now, under_way=under_way)
            if settlement.refused_until is not None:
                windows.exhaust(session, account, endpoint, settlement.refused_until, now)

    def record_dry(self, endpoint: Endpoint) -> None:
        free = Decimal(0)
        with self._db.transaction() as session:
            session.add(
                LedgerEntry(
                    bot_id=self._bot_id,
                    endpoint=endpoint,
                    at=clock.now(),
                    reserved_usd=free,
                    cost_usd=free,
                    units=0,
                    outcome=DRY,
                )
            )

    def spent(self) -> tuple[Decimal, Decimal]:
        """US dollars of this UTC day and month of the world; what is under way counts with the most it could cost."""
        with self._db.transaction() as session:
            return self._spent(session, clock.now())

    def _lock_bot(self, session: Session) -> None:
        # NO KEY: rows that refer to the bot can be inserted meanwhile.
        bot = session.get(Bot, self._bot_id, with_for_update={"key_share": True})
        if bot is None:
            raise LookupError(f"bot {self._bot_id!r} has no row in bots; it gets one when it is first started")

    def _check_budget(self, session: Session, endpoint: Endpoint, usd: Decimal, now: datetime) -> None:
        if usd == 0:
            return
        day, month = self._spent(session, now)
        for spent, cap, period, over in (
            (month, self._budget.max_usd_per_month, "month", next_month()),
            (day, self._budget.max_usd_per_day, "day", next_day()),
        ):
            if spent + usd > Decimal(str(cap)):
                raise BudgetExhausted(
                    f"${usd} could pass the cap of ${cap} a {period}, of which ${spent:.3f} is spent; "
                    f"it resets at {over:%Y-%m-%d %H:%M} UTC, or raise budget.max_usd_per_{period}",
                    endpoint=endpoint,
                    retry_at=over,
                )

    def _spent(self, session: Session, now: datetime) -> tuple[Decimal, Decimal]:
        today = _day(now)
        of_day, of_month = session.execute(
            select(
                func.coalesce(func.sum(SpentDay.usd).filter(SpentDay.day == today), 0),
                func.coalesce(func.sum(SpentDay.usd), 0),
            ).where(SpentDay.bot_id == self._bot_id, SpentDay.day >= today.replace(day=1))
        ).one()
        return Decimal(of_day), Decimal(of_month)

    def _book(self, session: Session, at: datetime, usd: Decimal) -> None:
        """Add to what the day of a reservation comes to. The caller has the lock of the bot."""
        if usd == 0:
            return
        booked = insert(SpentDay).values(bot_id=self._bot_id, day=_day(at), usd=usd)
        session.execute(
            booked.on_conflict_do_update(
                index_elements=[SpentDay.bot_id, SpentDay.day], set_={"usd": SpentDay.usd + booked.excluded.usd}
            )
        )

    def _under_way(self, session: Session, endpoint: Endpoint, now: datetime) -> int:
        return session.scalars(
            select(func.count())
            .select_from(LedgerEntry)
            .where(
                LedgerEntry.bot_id == self._bot_id,
                LedgerEntry.endpoint == endpoint,
                LedgerEntry.outcome.is_(None),
                LedgerEntry.at > now - LONGEST_REQUEST * clock.speed(),
            )
        ).one()


def _day(at: datetime) -> date:
    return at.astimezone(UTC).date()
