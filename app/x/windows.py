"""X's rate windows as rows: one per account, end-point and span, shared by every worker.

A window counts exactly what we reserve. X's headers correct it downwards at once where somebody else uses the account
too, and upwards only with a new window or another limit: an answer that comes in late must not give back what a later
request has used. All functions run inside the caller's transaction and lock rows in the order of the key.
https://docs.x.com/x-api/fundamentals/rate-limits
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.x.endpoints import Endpoint
from app.x.errors import RateLimited
from app.x.limits import APP, DAY, QUARTER, Limit
from app.x.refusals import epoch
from dbs.models import RateWindow

HEADERS = (  # prefix, whether it is the app's limit, span in seconds
    ("x-rate-limit", False, QUARTER),
    ("x-user-limit-24hour", False, DAY),
    ("x-app-limit-24hour", True, DAY),
)


@dataclass(frozen=True)
class Reading:
    """One window as the headers of an answer tell it."""

    app_wide: bool
    span_s: int
    allowed: int
    remaining: int
    resets_at: datetime


def readings(headers: Mapping[str, str]) -> list[Reading]:
    """The windows that the headers of an answer tell of. Incomplete or absurd headers tell of none."""
    found = []
    for prefix, app_wide, span_s in HEADERS:
        allowed, remaining = (_number(headers.get(f"{prefix}-{part}")) for part in ("limit", "remaining"))
        resets_at = epoch(headers.get(f"{prefix}-reset"))
        if allowed is not None and remaining is not None and resets_at is not None:
            found.append(Reading(app_wide, span_s, allowed, remaining, resets_at))
    return found


def take(
    session: Session,
    account: str,
    endpoint: Endpoint,
    limits: Sequence[Limit],
    *,
    now: datetime,
    under_way: int,
    spare: int = 0,
) -> None:
    """Take one request out of every window of the account and of the app on an end-point.

    Args:
        under_way: requests that have left and are not settled yet; they may fall into a window that begins now.
        spare: requests that are left in each window for others; a window that allows no more than these gives its last.

    Raises:
        RateLimited: a window is empty; `retry_at` is when the last of the empty ones is full again.
    """
    _begin(session, account, endpoint, limits, now)
    windows = _locked(session, account, endpoint)
    for window in windows:
        if window.resets_at <= now:
            window.remaining = max(0, window.allowed - under_way)
            window.resets_at = now + timedelta(seconds=window.span_s)
            window.updated_at = now
    empty = [window for window in windows if window.remaining <= min(spare, max(0, window.allowed - 1))]
    if empty:
        until = max(window.resets_at for window in empty)
        raise RateLimited(f"no request left until {until:%Y-%m-%d %H:%M:%S} UTC", endpoint=endpoint, retry_at=until)
    for window in windows:
        window.remaining -= 1
        window.updated_at = now


def give_back(session: Session, account: str, endpoint: Endpoint, taken_at: datetime, now: datetime) -> None:
    """Put back a request that never reached X, into the windows that it was taken from."""
    for window in _locked(session, account, endpoint):
        began = window.resets_at - timedelta(seconds=window.span_s)
        if began <= taken_at and now < window.resets_at:
            window.remaining = min(window.allowed, window.remaining + 1)
            window.updated_at = now


def correct(
    session: Session, account: str, endpoint: Endpoint, told: Sequence[Reading], *, now: datetime, under_way: int
) -> None:
    """Make the windows agree with the headers of an answer.

    Args:
        under_way: other requests that have left and are not settled; X may not have counted them yet.
    """
    told = sorted((item for item in told if item.resets_at > now), key=lambda item: (_name(account, item), item.span_s))
    for item in told:
        name = _name(account, item)
        _insert(session, name, endpoint, item.span_s, allowed=item.allowed, resets_at=item.resets_at, now=now)
    windows = {(window.account, window.span_s): window for window in _locked(session, account, endpoint)}
    for item in told:
        window = windows[_name(account, item), item.span_s]
        certain = max(0, item.remaining - under_way)
        # X's window begins when a request arrives: one that left just before the end of ours is the first of the next.
        # Told times differ from ours by moments within one window, and by all of its span between two.
        is_next = item.resets_at - window.resets_at > timedelta(seconds=item.span_s / 2)
        if is_next or window.resets_at <= now:
            window.remaining = certain
        else:
            counted = window.remaining + item.allowed - window.allowed
            window.remaining = max(0, counted) if counted <= item.remaining else certain
        window.allowed, window.resets_at, window.updated_at = item.allowed, item.resets_at, now


def exhaust(session: Session, account: str, endpoint: Endpoint, until: datetime, now: datetime) -> None:
    """Empty the account's shortest window: X has refused, whatever its headers say."""
    windows = [window for window in _locked(session, account, endpoint) if window.account == account]
    for window in windows[:1]:
        window.remaining = 0
        window.resets_at = max(window.resets_at, until)
        window.updated_at = now


def _begin(session: Session, account: str, endpoint: Endpoint, limits: Sequence[Limit], now: datetime) -> None:
    for limit in sorted(limits, key=lambda limit: (APP if limit.app_wide else account, limit.span_s)):
        resets_at = now + timedelta(seconds=limit.span_s)
        name = APP if limit.app_wide else account
        _insert(session, name, endpoint, limit.span_s, allowed=limit.requests, resets_at=resets_at, now=now)


def _insert(
    session: Session, account: str, endpoint: Endpoint, span_s: int, *, allowed: int, resets_at: datetime, now: datetime
) -> None:
    session.execute(
        insert(RateWindow)
        .values(
            account=account,
            endpoint=endpoint,
            span_s=span_s,
            allowed=allowed,
            remaining=allowed,
            resets_at=resets_at,
            updated_at=now,
        )
        .on_conflict_do_nothing()
    )


def _locked(session: Session, account: str, endpoint: Endpoint) -> list[RateWindow]:
    rows = session.scalars(
        select(RateWindow)
        .where(RateWindow.endpoint == endpoint, RateWindow.account.in_([account, APP]))
        .order_by(RateWindow.account, RateWindow.span_s)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return list(rows)


def _name(account: str, item: Reading) -> str:
    return APP if item.app_wide else account


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and len(text) < 10 else None
