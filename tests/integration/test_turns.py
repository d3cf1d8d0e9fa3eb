"""Turns and leases on a real database: who gets one when many ask at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import select

from app import clock, leases, loops
from app.config import VibeBotConfig
from app.loops import PutOff, run_turn
from app.schedule import LoopName
from dbs.models import Bot, Loop
from dbs.session import Database


@pytest.fixture
def enrolled(database: Database, bot: Bot, config: VibeBotConfig) -> Database:
    with database.transaction() as session:
        loops.ensure(session, config)
    return database


def row(database: Database, loop: LoopName) -> Loop:
    with database.transaction() as session:
        return session.scalars(select(Loop).where(Loop.loop == loop)).one()


def test_of_many_ticks_at_once_one_gets_the_turn(enrolled: Database, config: VibeBotConfig) -> None:
    def tick(_: int) -> int | None:
        return run_turn(enrolled, config, LoopName.TIMELINE, lambda: 1, by_hand=False)

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(tick, range(32)))
    assert results.count(1) == 1
    assert results.count(None) == 31
    assert row(enrolled, LoopName.TIMELINE).turns == 1


def test_a_person_gets_a_turn_before_it_is_due(enrolled: Database, config: VibeBotConfig) -> None:
    assert run_turn(enrolled, config, LoopName.TIMELINE, lambda: 1, by_hand=False) == 1
    assert run_turn(enrolled, config, LoopName.TIMELINE, lambda: 1, by_hand=False) is None
    assert run_turn(enrolled, config, LoopName.TIMELINE, lambda: 1, by_hand=True) == 1


def test_a_pause_refuses_everybody_and_survives(enrolled: Database, config: VibeBotConfig) -> None:
    with enrolled.transaction() as session:
        loops.pause(session, config.bot_id, "test")
    with enrolled.transaction() as session:
        loops.ensure(session, config)  # a restart
    assert run_turn(enrolled, config, LoopName.TIMELINE, lambda: 1, by_hand=True) is None
    with enrolled.transaction() as session:
        loops.resume(session, config.bot_id, [LoopName.TIMELINE])
    assert run_turn(enrolled, config, LoopName.TIMELINE, lambda: 1, by_hand=False) == 1
    assert run_turn(enrolled, config, LoopName.MENTIONS, lambda: 1, by_hand=False) is None


def test_a_turn_that_is_put_off_comes_back_when_it_said(enrolled: Database, config: VibeBotConfig) -> None:
    until = clock.now() + timedelta(minutes=3)

    def work() -> int:
        raise PutOff(until, "window empty")

    assert run_turn(enrolled, config, LoopName.TIMELINE, work, by_hand=False) == 0
    assert row(enrolled, LoopName.TIMELINE).next_due_at == until
    assert row(enrolled, LoopName.TIMELINE).turns == 0


def test_a_turn_that_fails_is_recorded_and_raised(enrolled: Database, config: VibeBotConfig) -> None:
    def work() -> int:
        raise RuntimeError("no such thing")

    with pytest.raises(RuntimeError):
        run_turn(enrolled, config, LoopName.TIMELINE, work, by_hand=False)
    assert row(enrolled, LoopName.TIMELINE).last_error == "RuntimeError: no such thing"
    assert run_turn(enrolled, config, LoopName.TIMELINE, lambda: 1, by_hand=True) == 1
    assert row(enrolled, LoopName.TIMELINE).last_error is None


def test_one_of_many_gets_the_lease(enrolled: Database, config: VibeBotConfig) -> None:
    def take(_: int) -> bool:
        try:
            leases.take(enrolled, config.bot_id, "training", 60)
        except leases.LeaseTaken:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(take, range(16))) == 1


def test_a_late_holder_is_fenced_off(enrolled: Database, config: VibeBotConfig) -> None:
    late = leases.take(enrolled, config.bot_id, "training", -1)  # has run out already
    successor = leases.take(enrolled, config.bot_id, "training", 60)
    assert successor.fence == late.fence + 1
    with pytest.raises(leases.LeaseLost), enrolled.transaction() as session:
        late.check(session)
    with pytest.raises(leases.LeaseLost):
        late.renew()
    leases.release(late)  # changes nothing
    with enrolled.transaction() as session:
        successor.check(session)
    with pytest.raises(leases.LeaseTaken):
        leases.take(enrolled, config.bot_id, "training", 60)


def test_a_released_lease_can_be_taken(enrolled: Database, config: VibeBotConfig) -> None:
    with leases.hold(enrolled, config.bot_id, "training", 60):
        pass
    with leases.hold(enrolled, config.bot_id, "training", 60) as lease:
        assert lease.fence == 2
