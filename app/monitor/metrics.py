"""An observation as Prometheus reads it. Names and units follow https://prometheus.io/docs/practices/naming/.

Everything is a gauge: what is counted here is counted in Postgres over a span that the name tells, and no process has
to live for it. What is not known yet is NaN, never 0 and never left out, so that a query finds it. How long tasks take,
and which worker is there, is in Flower's own `/metrics`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from app import clock
from app.config import BudgetConfig
from app.monitor.alarms import CHECKS, Alarm
from app.monitor.observation import Observation

Rows = Iterable[tuple[tuple[str, ...], float]]


def gauge(name: str, text: str, labels: tuple[str, ...], rows: Rows) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"explorer_{name}", text, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def _known(value: float | None) -> float:
    return math.nan if value is None else value


class Metrics(Collector):
    """Serves the latest observation: however often Prometheus asks, Postgres is asked once a round.

    Args:
        budget: the caps on money.
        latest: the newest observation, None before the first.
        standing: alarms that stand now.
    """

    def __init__(
        self, budget: BudgetConfig, latest: Callable[[], Observation | None], standing: Callable[[], list[Alarm]]
    ) -> None:
        self._budget, self._latest, self._standing = budget, latest, standing

    def collect(self) -> Iterator[GaugeMetricFamily]:
        names = {alarm.name for alarm in self._standing()}
        yield gauge(
            "alarm",
            "1 while an alarm stands.",
            ("alarm",),
            [((name,), name in names) for name in ("database", *(name for name, _ in CHECKS))],
        )
        seen = self._latest()
        if seen is not None:
            age = (clock.wall_now() - seen.at).total_seconds()
            yield gauge("observation_age_seconds", "Since the last look at Postgres.", (), [((), age)])
            yield from _of_the_loops(seen)
            yield from _of_posts(seen)
            yield from _of_work(seen)
            yield from _of_x(seen)
            yield from _of_money(seen, self._budget)
            yield from _of_generation(seen)
            yield from _of_earnings(seen)
            yield from _of_learning(seen)


def _of_the_loops(seen: Observation) -> Iterator[GaugeMetricFamily]:
    yield gauge(
        "loop_late_seconds",
        "Past the moment that the loop's turn was due.",
        ("loop",),
        [((loop.name,), loop.late) for loop in seen.loops],
    )
    yield gauge(
        "loop_paused", "1 while the loop is paused.", ("loop",), [((loop.name,), loop.paused) for loop in seen.loops]
    )
    yield gauge(
        "loop_turns",
        "Turns finished since the bot's first start.",
        ("loop",),
        [((loop.name,), loop.turns) for loop in seen.loops],
    )
    yield gauge(
        "loop_failing",
        "1 if the last turn failed.",
        ("loop",),
        [((loop.name,), loop.error is not None) for loop in seen.loops],
    )
    if seen.queues is not None:
        yield gauge(
            "queue_messages",
            "Messages that wait.",
            ("queue",),
            [((name,), waiting) for name, waiting in seen.queues.items()],
        )
    yield gauge("broker_up", "1 if the broker answers.", (), [((), seen.queues is not None)])


def _of_posts(seen: Observation) -> Iterator[GaugeMetricFamily]:
    yield gauge("posts", "Posts by state.", ("state",), [((name,), count) for name, count in seen.posts.items()])
    yield gauge("drafts", "Drafts by state.", ("state",), [((name,), count) for name, count in seen.drafts.items()])
    yield gauge("posts_lost", "Posts of unknown outcome that wait for a person.", (), [((), seen.lost)])


def _of_work(seen: Observation) -> Iterator[GaugeMetricFamily]:
    yield gauge(
        "work_waiting",
        "Work in Postgres that could be done now.",
        ("queue", "work"),
        [((found.queue, work), found.waiting) for work, found in seen.backlog.items()],
    )
    yield gauge(
        "work_oldest_seconds",
        "For how long the oldest of it could have been done.",
        ("queue", "work"),
        [((found.queue, work), found.oldest) for work, found in seen.backlog.items()],
    )


def _of_x(seen: Observation) -> Iterator[GaugeMetricFamily]:
    yield gauge("x_requests_1h", "Requests to X in the last hour.", ("endpoint", "outcome"), seen.requests.items())
    yield gauge(
        "x_window_remaining",
        "Requests that X still allows.",
        ("account", "endpoint", "span_seconds"),
        [((w.account, w.endpoint, str(w.span)), w.remaining) for w in seen.windows],
    )
    yield gauge(
        "x_window_allowed",
        "Requests that X allows in a window.",
        ("account", "endpoint", "span_seconds"),
        [((w.account, w.endpoint, str(w.span)), w.allowed) for w in seen.windows],
    )
    yield gauge(
        "x_barred", "1 for what X does not let the account do.", ("ability",), [((name,), 1) for name in seen.barred]
    )


def _of_money(seen: Observation, budget: BudgetConfig) -> Iterator[GaugeMetricFamily]:
    yield gauge(
        "x_spent_dollars", "Spent at X's prices.", ("span",), [(("24h",), seen.spent_day), (("30d",), seen.spent_month)]
    )
    yield gauge(
        "x_budget_dollars",
        "The most that may be spent.",
        ("span",),
        [(("24h",), budget.max_usd_per_day), (("30d",), budget.max_usd_per_month)],
    )


def _of_generation(seen: Observation) -> Iterator[GaugeMetricFamily]:
    batches = seen.batches
    yield gauge("generation_batches_1h", "Batches written in the last hour.", (), [((), batches.batches)])
    yield gauge("generation_drafts_1h", "Drafts written in the last hour.", (), [((), batches.drafts)])
    yield gauge(
        "generation_tokens_per_second",
        "While a batch is being written, over the last hour; NaN if none was.",
        (),
        [((), batches.tokens / batches.seconds if batches.seconds else math.nan)],
    )
    yield gauge(
        "checkpoint_reload_seconds",
        "What the last swap of checkpoints took; NaN before the first.",
        (),
        [((), _known(seen.reload.seconds if seen.reload else None))],
    )
    yield gauge(
        "checkpoint_reload_wait_seconds",
        "From the last promotion until the bot wrote with it; NaN before the first.",
        (),
        [((), _known(seen.reload.waited if seen.reload else None))],
    )


def _of_earnings(seen: Observation) -> Iterator[GaugeMetricFamily]:
    yield gauge(
        "reward_24h", "Mean reward of the last 24 hours; NaN if there was none.", (), [((), _known(seen.reward))]
    )
    yield gauge(
        "engagement_24h",
        "Mean engagement behind the rewards of the last 24 hours; NaN if there was none.",
        (),
        [((), _known(seen.engagement))],
    )
    by_checkpoint = ("checkpoint", "kind")
    yield gauge(
        "checkpoint_rewards_24h",
        "Rewards of the last 24 hours for what a checkpoint wrote.",
        by_checkpoint,
        [((row.checkpoint_id, row.kind), row.rewards) for row in seen.earned],
    )
    yield gauge(
        "checkpoint_reward_24h",
        "Their mean; NaN if there was none.",
        by_checkpoint,
        [((row.checkpoint_id, row.kind), _known(row.reward)) for row in seen.earned],
    )
    yield gauge(
        "checkpoint_engagement_24h",
        "Mean engagement behind them; NaN if there was none.",
        by_checkpoint,
        [((row.checkpoint_id, row.kind), _known(row.engagement)) for row in seen.earned],
    )


def _of_learning(seen: Observation) -> Iterator[GaugeMetricFamily]:
    yield gauge("training_running", "1 while a training run is under way.", (), [((), seen.training)])
    yield gauge("training_failures_in_a_row", "Failed runs since the last good one.", (), [((), seen.failures)])
    yield gauge("gate_refusals_in_a_row", "Refused candidates since the last that passed.", (), [((), seen.refusals)])
    if seen.served is not None:
        yield gauge(
            "checkpoint_served",
            "1 for the checkpoint that the bot writes with.",
            ("checkpoint", "kind"),
            [((seen.served.checkpoint_id, seen.served.kind), 1)],
        )
