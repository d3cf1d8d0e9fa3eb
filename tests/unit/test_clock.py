"""World time and wall time."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import clock

ANCHOR = datetime(2026, 1, 5, 8, tzinfo=UTC)


def test_unset_means_real(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(clock.VARIABLE, raising=False)
    assert abs(clock.now() - clock.wall_now()) < timedelta(seconds=1)
    assert clock.speed() == 1


def test_a_fast_world_agrees_at_its_anchor() -> None:
    fast = clock.parse("2026-01-05T08:00:00Z@120")
    assert fast.at(ANCHOR) == ANCHOR
    assert fast.at(ANCHOR + timedelta(seconds=30)) == ANCHOR + timedelta(hours=1)


def test_a_world_goes_on_where_it_stood() -> None:
    resumed = clock.parse("2026-01-05T08:00:00Z/2026-03-01T00:00:00Z@60")
    assert resumed.at(ANCHOR + timedelta(minutes=1)) == datetime(2026, 3, 1, 1, tzinfo=UTC)


@given(
    anchor=st.integers(0, 2**31).map(lambda second: datetime.fromtimestamp(second, UTC)),
    origin=st.integers(0, 2**31).map(lambda second: datetime.fromtimestamp(second, UTC)),
    speed=st.integers(1, 100_000),
)
def test_another_process_agrees(anchor: datetime, origin: datetime, speed: int) -> None:
    made = clock.WorldClock(anchor, origin, float(speed))
    later = anchor + timedelta(seconds=10)
    assert clock.parse(made.setting()).at(later) == made.at(later)


@pytest.mark.parametrize("setting", ["2026-01-05@2", "2026-01-05T08:00:00Z@0", "2026-01-05T08:00:00Z", "@", "x@-1"])
def test_a_wrong_setting_says_what_is_expected(setting: str) -> None:
    with pytest.raises(ValueError, match="expected 'wall'"):
        clock.parse(setting)


def test_spans_convert(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(clock.VARIABLE, "2026-01-05T08:00:00Z@60")
    assert clock.wall_seconds(timedelta(minutes=15)) == 15


def test_virtual_time_stands_still_until_it_is_told_to_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(clock.VARIABLE, "2026-01-05T08:00:00Z@60")
    with clock.virtual(ANCHOR) as moment:
        before = clock.wall_now()
        assert clock.now() == clock.now() == ANCHOR
        moment.jump(ANCHOR + timedelta(days=3))
        seen: list[datetime] = []
        thread = threading.Thread(target=lambda: seen.append(clock.now()))
        thread.start()
        thread.join()
        assert seen == [clock.now()] == [ANCHOR + timedelta(days=3)]
        assert timedelta() <= clock.wall_now() - before < timedelta(minutes=1)
    assert clock.speed() == 60


def test_virtual_time_never_goes_back() -> None:
    with clock.virtual(ANCHOR) as moment:
        moment.jump(ANCHOR - timedelta(hours=1))
        assert clock.now() == ANCHOR


def test_virtual_time_is_one_and_aware_and_does_not_pass_by_itself() -> None:
    naive = ANCHOR.replace(tzinfo=None)
    with pytest.raises(ValueError, match="no time zone"), clock.virtual(naive):
        pass
    with clock.virtual(ANCHOR) as moment:
        with pytest.raises(RuntimeError, match="already"), clock.virtual(ANCHOR):
            pass
        with pytest.raises(ValueError, match="no time zone"):
            moment.jump(naive)
        with pytest.raises(RuntimeError, match="jump there"):
            clock.wall_seconds(timedelta(minutes=1))
        assert clock.now() == ANCHOR
