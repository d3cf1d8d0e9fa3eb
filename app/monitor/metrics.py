"""An observation as Prometheus reads it. Names and units follow https://prometheus.io/docs/practices/naming/.

Everything is a gauge: what is counted here is counted in Postgres over a span that the name tells, and no process has
to live for it. How long tasks take is in Flower's own `/metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from app import clock
from app.monitor.alarms import CHECKS, Alarm
from app.monitor.observation import Observation

Rows = Iterable[tuple[tuple[str, ...], float]]


def gauge(name: str, text: str, labels: tuple[str, ...], rows: Rows) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"explorer_{name}", text, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


class Metrics(Collector):
    """Serves the latest observation: however often Prometheus asks, Postgres is asked once a round.

    Args:
        latest: the newest observation, None before the first.
        standing: alarms that stand now.
    """

    def __init__(self, latest: Callable[[], Observation | None], standing: Callable[[], list[Alarm]]) -> None:
        self._latest, self._standing = latest, standing

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
            yield from _of_x(seen)
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
    yield gauge("post_overdue_seconds", "Since the oldest queued post should have left.", (), [((), seen.overdue)])
    yield gauge("posts_lost", "Posts of unknown outcome that wait for a person.", (), [((), seen.lost)])


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
        "x_spent_dollars", "Spent at X's prices.", ("span",), [(("24h",), seen.spent_day), (("30d",), seen.spent_month)]
    )
    yield gauge(
        "x_barred", "1 for what X does not let the account do.", ("ability",), [((name,), 1) for name in seen.barred]
    )


def _of_learning(seen: Observation) -> Iterator[GaugeMetricFamily]:
    batches = seen.batches
    yield gauge("generation_batches_1h", "Batches written in the last hour.", (), [((), batches.batches)])
    yield gauge("generation_drafts_1h", "Drafts written in the last hour.", (), [((), batches.drafts)])
    if batches.seconds:
        yield gauge(
            "generation_tokens_per_second",
            "While a batch is being written, over the last hour.",
            (),
            [((), batches.tokens / batches.seconds)],
        )
    if seen.reward is not None:
        yield gauge("reward_24h", "Mean reward of the last 24 hours.", (), [((), seen.reward)])
    if seen.engagement is not None:
        yield gauge(
            "engagement_24h", "Mean engagement behind the rewards of the last 24 hours.", (), [((), seen.engagement)]
        )
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
