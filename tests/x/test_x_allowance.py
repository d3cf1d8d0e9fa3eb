"""Windows and money, shared by many workers through a real PostgreSQL."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from scripted_x import Reply, Reset, post, user
from sqlalchemy import Date, func, select, update

from app import clock
from app.config import BudgetConfig
from app.x import errors
from app.x.allowance import Settlement, SharedAllowance
from app.x.endpoints import Endpoint
from app.x.limits import BASIC, CURRENT
from app.x.prices import charge_for
from dbs.models import Bot, LedgerEntry, RateWindow, SpentDay

FREE = Decimal(0)
HOME = Endpoint.HOME_TIMELINE
NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


def allowance(database, **budget) -> SharedAllowance:
    return SharedAllowance(database, "explorer", "1000001", BudgetConfig(**budget))


def window(database, endpoint=HOME, account="1000001", span_s=900) -> RateWindow:
    with database.transaction() as session:
        return session.get_one(RateWindow, (account, endpoint, span_s))


def set_window(database, remaining, allowed=20, endpoint=HOME, minutes=10.0) -> None:
    now = clock.now()
    with database.transaction() as session:
        session.merge(
            RateWindow(
                account="1000001",
                endpoint=endpoint,
                span_s=900,
                allowed=allowed,
                remaining=remaining,
                resets_at=now + timedelta(minutes=minutes),
                updated_at=now,
            )
        )


def rate(limit, remaining, minutes=10.0, prefix="x-rate-limit") -> dict[str, str]:
    reset = int((clock.now() + timedelta(minutes=minutes)).timestamp())
    return {f"{prefix}-limit": str(limit), f"{prefix}-remaining": str(remaining), f"{prefix}-reset": str(reset)}


def settled(headers=None, **facts) -> Settlement:
    return Settlement(
        **{"outcome": "ok", "cost": FREE, "units": 1, "status": 200, "wall_ms": 1.0, "headers": headers or {}, **facts}
    )


def passes(allowed: SharedAllowance, usd: Decimal, endpoint=HOME) -> bool:
    try:
        allowed.reserve(endpoint, usd)
    except (errors.RateLimited, errors.BudgetExhausted):
        return False
    return True


def test_fifty_threads_and_a_window_of_twenty_let_twenty_pass(database, bot):
    set_window(database, remaining=20)
    allowed = allowance(database)
    together = threading.Barrier(50)

    def attempt(_):
        together.wait()
        return passes(allowed, FREE)

    with ThreadPoolExecutor(50) as pool:
        outcomes = list(pool.map(attempt, range(50)))
    assert sum(outcomes) == 20
    assert window(database).remaining == 0
    with database.transaction() as session:
        assert len(session.scalars(select(LedgerEntry)).all()) == 20


def test_thirty_threads_and_money_for_ten_let_ten_pass(database, bot):
    allowed = allowance(database, max_usd_per_day=1.0)
    with ThreadPoolExecutor(30) as pool:
        outcomes = list(pool.map(lambda _: passes(allowed, Decimal("0.1"), Endpoint.POSTS), range(30)))
    assert sum(outcomes) == 10
    assert allowed.spent() == (Decimal("1.0"), Decimal("1.0"))


def test_what_days_come_to_is_what_their_ledger_comes_to(database, bot):
    """Kept beside the ledger, so that a cap need not add up a month before every request."""
    allowed, most = allowance(database, max_usd_per_day=1000, max_usd_per_month=1000), Decimal("0.5")
    costs = [Decimal(cents) / 100 for cents in range(40)]

    def ask(number: int) -> None:
        reservation = allowed.reserve(Endpoint.POSTS, most)
        if number % 4:  # every fourth stays under way, at the most it can cost
            cost = costs[number]
            allowed.settle(reservation, Settlement("ok", cost, units=1, status=200, wall_ms=1.0))

    for day in (NOON - timedelta(days=32), NOON - timedelta(hours=13), NOON):
        with clock.virtual(day), ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(40)))
    a_day = sum(cost if number % 4 else most for number, cost in enumerate(costs))
    with clock.virtual(NOON):
        assert allowed.spent() == (a_day, 2 * a_day)
    with database.transaction() as session:
        at = func.timezone("UTC", LedgerEntry.at).cast(Date)
        cost = func.coalesce(LedgerEntry.cost_usd, LedgerEntry.reserved_usd)
        entries = session.execute(select(at, func.sum(cost)).group_by(at).order_by(at)).all()
        days = session.execute(select(SpentDay.day, SpentDay.usd).order_by(SpentDay.day)).all()
    assert len(days) == 3
    assert days == entries


def test_threads_that_reserve_and_settle_never_pass_more_than_x_allows(database, bot):
    """Headers come back in any order; the window is theirs from the first answer on."""
    allowed = allowance(database)
    lock, served = threading.Lock(), []

    def one(_):
        try:
            reservation = allowed.reserve(HOME, FREE)
        except errors.RateLimited:
            return
        with lock:
            served.append(1)
            left = 40 - len(served)
        allowed.settle(reservation, settled(rate(40, max(0, left), minutes=30)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(200)))
    # The first requests leave before any header has said that the limit is not the table's 180.
    assert 36 <= len(served) <= 40
    assert window(database).allowed == 40


def test_a_request_reserved_while_the_headers_of_another_are_read_is_not_forgotten(database, bot, monkeypatch):
    """The first reading of a window counts what is under way: who reserves at that moment waits for the new count."""
    allowed = allowance(database)
    reservation = allowed.reserve(HOME, FREE)
    count, late = SharedAllowance._under_way, threading.Thread(target=lambda: allowed.reserve(HOME, FREE))

    def count_and_let_another_come(self, session, endpoint, now):
        counted = count(self, session, endpoint, now)
        monkeypatch.setattr(SharedAllowance, "_under_way", count)
        late.start()
        late.join(0.5)
        return counted

    monkeypatch.setattr(SharedAllowance, "_under_way", count_and_let_another_come)
    allowed.settle(reservation, settled(rate(40, 39, minutes=30)))
    late.join()
    assert window(database).remaining == 38


def test_an_empty_window_says_when_it_is_full_again_and_then_is(database, bot):
    set_window(database, remaining=0, minutes=10)
    with pytest.raises(errors.RateLimited) as caught:
        allowance(database).reserve(HOME, FREE)
    assert caught.value.retry_at == window(database).resets_at
    set_window(database, remaining=0, minutes=-1)
    allowance(database).reserve(HOME, FREE)
    assert window(database).remaining == 19


def test_requests_under_way_count_in_the_window_that_begins(database, bot):
    set_window(database, remaining=20)
    allowed = allowance(database)
    for _ in range(3):
        allowed.reserve(HOME, FREE)
    set_window(database, remaining=0, minutes=-1)
    allowed.reserve(HOME, FREE)
    assert window(database).remaining == 20 - 3 - 1


def test_a_request_that_left_before_the_end_of_a_window_may_be_the_first_of_the_next(database, bot):
    set_window(database, remaining=1, minutes=0.05)
    allowed = allowance(database)
    reservation = allowed.reserve(HOME, FREE)
    allowed.settle(reservation, settled(rate(20, 19, minutes=15.05)))
    assert window(database).remaining == 19


def test_requests_are_left_for_what_is_more_urgent(database, bot):
    set_window(database, remaining=2)
    allowed = allowance(database)
    allowed.reserve(HOME, FREE, spare=1)
    with pytest.raises(errors.RateLimited):
        allowed.reserve(HOME, FREE, spare=1)
    allowed.reserve(HOME, FREE)
    set_window(database, remaining=1, allowed=1)  # where there is one and no more, it is whose turn it is
    allowed.reserve(HOME, FREE, spare=1)
    set_window(database, remaining=0, allowed=0)
    with pytest.raises(errors.RateLimited):
        allowed.reserve(HOME, FREE, spare=1)


def test_the_reservation_of_a_dead_process_is_forgotten_by_windows_but_not_by_the_budget(database, bot):
    allowed = allowance(database)
    allowed.reserve(HOME, Decimal("0.5"))
    with database.transaction() as session:
        session.execute(update(LedgerEntry).values(at=clock.now() - timedelta(minutes=3)))
    set_window(database, remaining=0, minutes=-1)
    allowed.reserve(HOME, FREE)
    assert window(database).remaining == 19
    if clock.now().hour or clock.now().minute >= 3:  # else it was another day
        assert allowed.spent()[0] == Decimal("0.5")


def test_a_late_answer_gives_nothing_back(database, bot):
    allowed = allowance(database)
    first, second = allowed.reserve(HOME, FREE), allowed.reserve(HOME, FREE)
    headers = rate(15, 14), rate(15, 13)
    allowed.settle(second, settled(headers[1]))
    assert window(database).remaining <= 13
    allowed.settle(first, settled(headers[0]))
    assert window(database).remaining <= 13


def test_headers_lower_a_window_that_somebody_else_uses_too(database, bot):
    set_window(database, remaining=20)
    allowed = allowance(database)
    reservation, _under_way = allowed.reserve(HOME, FREE), allowed.reserve(HOME, FREE)
    allowed.settle(reservation, settled(rate(20, 7)))
    assert window(database).remaining == 7 - 1


def test_headers_replace_the_table(database, bot):
    allowed = allowance(database, tier="basic")
    reservation = allowed.reserve(HOME, FREE)
    assert window(database).allowed == 5
    allowed.settle(reservation, settled(rate(180, 179, minutes=14)))
    row = window(database)
    assert (row.allowed, row.remaining) == (180, 179)
    assert abs(row.resets_at - clock.now() - timedelta(minutes=14)) < timedelta(seconds=5)


def test_daily_windows_are_learnt_and_hold(database, bot):
    allowed = allowance(database)
    reservation = allowed.reserve(Endpoint.CREATE_POST, FREE)
    headers = rate(17, 0, 60 * 20, "x-user-limit-24hour") | rate(500, 3, 60 * 20, "x-app-limit-24hour")
    allowed.settle(reservation, settled(headers))
    with pytest.raises(errors.RateLimited) as caught:
        allowed.reserve(Endpoint.CREATE_POST, FREE)
    assert caught.value.retry_at - clock.now() > timedelta(hours=19)
    assert window(database, Endpoint.CREATE_POST, "app", 86400).remaining == 3
    allowed.reserve(HOME, FREE)


def test_what_never_reached_x_is_put_back(database, bot):
    set_window(database, remaining=20)
    allowed = allowance(database)
    reservation = allowed.reserve(HOME, Decimal(1))
    allowed.settle(reservation, settled(outcome="NotDelivered", status=None, delivered=False))
    assert window(database).remaining == 20
    assert allowed.spent()[0] == 0


@pytest.mark.parametrize("headers", [{}, {"x-rate-limit-limit": "-1"}, rate(5, 5) | {"x-rate-limit-reset": "9" * 40}])
def test_absurd_headers_teach_nothing(database, bot, headers):
    set_window(database, remaining=20)
    allowed = allowance(database)
    allowed.settle(allowed.reserve(HOME, FREE), settled(headers))
    assert (window(database).allowed, window(database).remaining) == (20, 19)


def test_a_cap_names_itself_and_its_end(database, bot):
    with pytest.raises(errors.BudgetExhausted, match="max_usd_per_day") as caught:
        allowance(database, max_usd_per_day=0.5).reserve(HOME, Decimal("0.51"))
    assert caught.value.retry_at > clock.now()
    assert (caught.value.retry_at.hour, caught.value.retry_at.minute) == (0, 0)
    with pytest.raises(errors.BudgetExhausted, match="max_usd_per_month") as caught:
        allowance(database, max_usd_per_day=9, max_usd_per_month=0.5).reserve(HOME, Decimal("0.51"))
    assert caught.value.retry_at.day == 1
    allowance(database, max_usd_per_day=0, max_usd_per_month=0).reserve(HOME, FREE)


def test_a_refusal_leaves_nothing_behind(database, bot):
    set_window(database, remaining=20)
    assert not passes(allowance(database, max_usd_per_day=0), Decimal(1))
    assert window(database).remaining == 20
    with database.transaction() as session:
        assert session.scalars(select(LedgerEntry)).all() == []


def test_bots_do_not_share_windows_or_money(database, bot):
    with database.transaction() as session:
        session.add(Bot(bot_id="other", user_id="1000002", handle=None, created_at=clock.now()))
    set_window(database, remaining=0)
    other = SharedAllowance(database, "other", "1000002", BudgetConfig(max_usd_per_day=1))
    other.reserve(HOME, Decimal(1))
    assert allowance(database).spent() == (0, 0)


def test_a_bot_without_a_row_is_told_so(database):
    with pytest.raises(LookupError, match="explorer"):
        allowance(database).reserve(HOME, FREE)


def test_every_endpoint_has_limits_and_prices():
    for endpoint in Endpoint:
        assert CURRENT[endpoint]
        assert BASIC[endpoint]
        assert charge_for(endpoint, BudgetConfig()).of(1, 0) > 0
        assert charge_for(endpoint, BudgetConfig(tier="pro")).of(100, 100) == 0


def ledger(database) -> list[LedgerEntry]:
    with database.transaction() as session:
        return list(session.scalars(select(LedgerEntry).order_by(LedgerEntry.entry_id)))


def test_what_requests_come_to(x, connect, database, bot):
    client = connect(db=database)
    created = Reply(201, {"data": {"id": "9"}})
    x.script(
        Reply(body={"data": [post("1"), post("2")]}),  # timeline
        Reply(body={"data": [post("3")], "includes": {"users": [user("7")]}}),  # mentions: owned, with an author
        Reply(body={"data": [user("7")]}),
        created,
        created,
        created,
        Reply(503, {}),
        Reply(403, {}),
        Reset(),
    )
    client.get_timeline("1000001", 50)
    client.get_mentions(10)
    client.resolve_handles(["ada", "bob"])
    client.post_tweet("hello")
    client.post_tweet("see example.com")
    client.reply_to_tweet("1", "hello", summoned=True)
    for expected in (errors.OutcomeUnknown, errors.NotAllowed):
        with pytest.raises(expected):
            client.post_tweet("hello again")
    with pytest.raises(errors.ServerUnavailable):
        client.get_timeline("1000001", 50)
    assert [(e.outcome, float(e.reserved_usd), float(e.cost_usd), e.units, e.status) for e in ledger(database)] == [
        ("ok", 0.25, 0.01, 2, 200),
        ("ok", 0.11, 0.011, 2, 200),
        ("ok", 0.02, 0.01, 1, 200),
        ("ok", 0.015, 0.015, 1, 201),
        ("ok", 0.2, 0.2, 1, 201),
        ("ok", 0.01, 0.01, 1, 201),
        ("OutcomeUnknown", 0.015, 0.015, 0, 503),
        ("NotAllowed", 0.015, 0.0, 0, 403),
        ("ServerUnavailable", 0.25, 0.25, 0, None),
    ]
    assert all(entry.wall_ms > 0 for entry in ledger(database))


def test_after_a_429_no_request_leaves_until_the_window_is_full(x, connect, database, bot):
    client = connect(db=database)
    x.script(Reply(429, {"errors": [{"code": 88}]}, rate(5, 0, minutes=3)), Reply(429, b"", {}))
    for _ in range(3):
        with pytest.raises(errors.RateLimited) as caught:
            client.me()
        assert timedelta(minutes=2) < caught.value.retry_at - clock.now() <= timedelta(minutes=3)
    assert len(x.requests) == 1
    for _ in range(2):
        with pytest.raises(errors.RateLimited):
            client.get_timeline("1000001")
    assert len(x.requests) == 2


def test_a_post_that_x_took_is_told_even_if_the_ledger_cannot_be_written(x, connect, database, bot):
    client = connect(db=database)

    def take_it_and_lose_the_entry(_):
        with database.transaction() as session:
            session.query(LedgerEntry).delete()
        return Reply(201, {"data": {"id": "9"}})

    x.script(take_it_and_lose_the_entry)
    assert client.post_tweet("hello").x_post_id == "9"
