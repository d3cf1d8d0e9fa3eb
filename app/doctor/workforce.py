"""The services at work: told by their queues, by a task that comes back, and by beat's ticks (`workers/health.py`)."""

from __future__ import annotations

import os

from app.doctor.findings import AtFault, Check, NotExamined
from app.doctor.setup import Setup
from app.loading import WrongSetting
from workers import health

STARTED_BY = {"generation": "python -m workers.gpu", "training": "python -m workers.gpu"}
IO_STARTED_BY = "python -m workers.io"


def check_workers(setup: Setup) -> str:
    _expect_running(setup)
    consumers = health.consumers()
    wrong = [
        WrongSetting(
            f"queue {queue}",
            "no worker consumes it",
            f"start one (`{STARTED_BY.get(queue, IO_STARTED_BY)}`), or look at its log",
        )
        for queue, nodes in consumers.items()
        if not nodes
    ]
    nodes = sorted({node for names in consumers.values() for node in names})
    for node in nodes:
        try:
            health.check_node_anywhere(node)
        except health.Unhealthy as problem:
            wrong.append(WrongSetting(node, str(problem), "restart it, and look at its log"))
    if wrong:
        raise AtFault(*wrong)
    return f"{', '.join(nodes)} at work"


def check_beat(setup: Setup) -> str:
    _expect_running(setup)
    try:
        health.check_ticks()
    except health.Unhealthy as problem:
        remedy = "start it (`celery -A app beat`), or look at its log"
        raise AtFault(WrongSetting("beat", str(problem), remedy)) from None
    return "sends ticks"


def _expect_running(setup: Setup) -> None:
    if not setup.running:
        raise NotExamined("unless asked for with --running")
    # The Celery app reads the config by itself, for its ticks.
    os.environ["EXPLORER_CONFIG"] = str(setup.config_file)


CHECKS = (
    Check("workers", check_workers, ("config", "broker")),
    Check("beat", check_beat, ("config", "broker")),
)
