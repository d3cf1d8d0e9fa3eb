"""What a person should be told: pure functions of an observation. `docs/operating.md` says what to do about each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from app.config import VibeBotConfig
from app.monitor.observation import Observation

BUDGET_SHARE = 0.9  # of a cap
FEWEST_REQUESTS = 10  # of which a share says something
FAILING_SHARE = 0.5
IN_A_ROW = 3  # refusals at the gate
FAILED_RUNS = 2  # in a row
FULL_QUEUE = 500  # messages; ticks expire, so a queue that is served never comes near
FINE = {"ok", "dry"}  # outcomes of requests


@dataclass(frozen=True)
class Alarm:
    """Something is wrong: `name` stays the same while it is, `text` says what, with its values."""

    name: str
    text: str


def alarms(seen: Observation, config: VibeBotConfig) -> list[Alarm]:
    """Everything that is wrong in an observation."""
    return [Alarm(name, text) for name, check in CHECKS for text in check(seen, config)]


def unreachable(error: Exception) -> Alarm:
    """Postgres is away, so that nothing else can be known."""
    return Alarm("database", f"PostgreSQL cannot be reached: {type(error).__name__}")


def _stopped(seen: Observation, _: VibeBotConfig) -> Iterator[str]:
    if seen.stopped is not None:
        yield f"the bot was stopped: {seen.stopped}"


def _stuck(seen: Observation, config: VibeBotConfig) -> Iterator[str]:
    late = [loop for loop in seen.loops if loop.late > config.monitor.late_after * 60]
    if late:
        names = ", ".join(f"{loop.name} ({loop.late / 60:.0f} min)" for loop in late)
        yield f"turns that nobody takes: {names}; is its worker running?"


def _failing(seen: Observation, _: VibeBotConfig) -> Iterator[str]:
    failed = [f"{loop.name}: {loop.error}" for loop in seen.loops if loop.error is not None]
    if failed:
        yield f"loops whose last turn failed: {'; '.join(failed)}"


def _unsent(seen: Observation, config: VibeBotConfig) -> Iterator[str]:
    overdue = seen.backlog["send"].oldest
    if overdue > config.monitor.late_after * 60:
        yield f"the oldest queued post should have left {overdue / 60:.0f} min ago"


def _lost(seen: Observation, _: VibeBotConfig) -> Iterator[str]:
    if seen.lost:
        yield f"{seen.lost} post(s) of unknown outcome, absent from our timeline; look at X, and at `explorer status`"


def _money(seen: Observation, config: VibeBotConfig) -> Iterator[str]:
    for span, spent, cap in (
        ("24 hours", seen.spent_day, config.budget.max_usd_per_day),
        ("30 days", seen.spent_month, config.budget.max_usd_per_month),
    ):
        if spent > 0 and spent >= BUDGET_SHARE * cap:
            yield f"${spent:.2f} of ${cap:g} spent in {span}; requests that would break the cap are put off"


def _requests(seen: Observation, _: VibeBotConfig) -> Iterator[str]:
    total = sum(seen.requests.values())
    failed = sum(count for (_, outcome), count in seen.requests.items() if outcome not in FINE)
    if total >= FEWEST_REQUESTS and failed >= FAILING_SHARE * total:
        yield f"{failed} of {total} requests to X failed in the last hour"


def _barred(seen: Observation, _: VibeBotConfig) -> Iterator[str]:
    for ability, reason in sorted(seen.barred.items()):
        yield f"X does not let this account {ability}: {reason}"


def _gate(seen: Observation, _: VibeBotConfig) -> Iterator[str]:
    if seen.refusals >= IN_A_ROW:
        yield f"the gate refused the last {seen.refusals} candidates; `explorer checkpoints show` has the reasons"


def _training(seen: Observation, _: VibeBotConfig) -> Iterator[str]:
    if seen.failures >= FAILED_RUNS:
        yield f"the last {seen.failures} training runs failed"


def _broker(seen: Observation, _: VibeBotConfig) -> Iterator[str]:
    if seen.queues is None:
        yield "the broker cannot be reached"
        return
    full = [f"{name} ({waiting})" for name, waiting in seen.queues.items() if waiting > FULL_QUEUE]
    if full:
        yield f"messages pile up: {', '.join(full)}"


CHECKS: tuple[tuple[str, Callable[[Observation, VibeBotConfig], Iterator[str]]], ...] = (
    ("stopped", _stopped),
    ("stuck", _stuck),
    ("failing", _failing),
    ("unsent", _unsent),
    ("lost", _lost),
    ("money", _money),
    ("requests", _requests),
    ("capability", _barred),
    ("gate", _gate),
    ("training", _training),
    ("broker", _broker),
)
