"""The Celery app: queues, routes, ticks and logging. `celery -A app …` finds it through `app/__init__.py`.

Importing this module costs no torch, no database and no config; settings are read when Celery first needs one.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import structlog
from celery import Celery, signals

from app import broker, clock, logs
from app.loading import load_config, load_secrets
from app.schedule import LoopName, interval

TIMELINE, PUBLISHING, ENGAGEMENT, UPKEEP = "timeline", "publishing", "engagement", "upkeep"
GENERATION, TRAINING = "generation", "training"

# Which process consumes which queues. A test holds the routes to exactly these.
IO_QUEUES = (TIMELINE, PUBLISHING, ENGAGEMENT, UPKEEP)
GENERATION_QUEUES = (GENERATION,)
TRAINING_QUEUES = (TRAINING,)

TASK_QUEUES = {
    "app.tasks.timeline": TIMELINE,
    "app.tasks.mentions": TIMELINE,
    "app.tasks.publishing": PUBLISHING,
    "app.tasks.send": PUBLISHING,
    "app.tasks.reconciliation": PUBLISHING,
    "app.tasks.engagement": ENGAGEMENT,
    "app.tasks.measure": ENGAGEMENT,
    "app.tasks.community": UPKEEP,
    "app.tasks.data_set": UPKEEP,
    "app.tasks.data_set_page": UPKEEP,
    "app.tasks.persona": UPKEEP,
    "app.tasks.forgetting": UPKEEP,
    "app.tasks.ppo_due": UPKEEP,
    "app.tasks.echo": UPKEEP,
    "app.tasks.generation": GENERATION,
    "app.tasks.own_post": GENERATION,
    "app.tasks.summaries": GENERATION,
    "app.tasks.reload": GENERATION,
    "app.tasks.ppo": TRAINING,
    "app.tasks.dpo": TRAINING,
    "app.tasks.jump_start": TRAINING,
}

TICKS = {
    LoopName.COMMUNITY: "app.tasks.community",
    LoopName.TIMELINE: "app.tasks.timeline",
    LoopName.MENTIONS: "app.tasks.mentions",
    LoopName.GENERATION: "app.tasks.generation",
    LoopName.OWN_POSTS: "app.tasks.own_post",
    LoopName.SUMMARIES: "app.tasks.summaries",
    LoopName.PUBLISHING: "app.tasks.publishing",
    LoopName.RECONCILIATION: "app.tasks.reconciliation",
    LoopName.ENGAGEMENT: "app.tasks.engagement",
    LoopName.PERSONA: "app.tasks.persona",
    LoopName.FORGETTING: "app.tasks.forgetting",
    # Whether a run is worth a process of its own is found out where it costs nothing.
    LoopName.PPO: "app.tasks.ppo_due",
}

# A tick is one cheap message; it comes a few times per interval, so that a turn is late by a fraction of it at most.
TICKS_PER_INTERVAL = 4
MIN_TICK_SECONDS, MAX_TICK_SECONDS = 1.0, 10.0
# A tick outlives a long batch of the one generation thread; of those that piled up meanwhile one finds its turn due.
TICK_LIFE_SECONDS = 300.0


def tick_seconds(every: timedelta) -> float:
    """Wall seconds between the ticks of a loop with this interval of world time."""
    seconds = clock.wall_seconds(every) / TICKS_PER_INTERVAL
    return min(max(seconds, MIN_TICK_SECONDS), MAX_TICK_SECONDS)


def beat_schedule() -> dict[str, dict[str, Any]]:
    """One tick per loop; each expires, so that a worker that was stopped for long finds no pile."""
    config = load_config()
    schedule = {}
    for loop, task in TICKS.items():
        schedule[loop.value] = {
            "task": task,
            "schedule": timedelta(seconds=tick_seconds(interval(loop, config.loop))),
            "kwargs": {"scheduled": True},
            "options": {"expires": TICK_LIFE_SECONDS},
        }
    return schedule


def settings() -> dict[str, Any]:
    url = load_secrets().broker.get_secret_value()
    return {
        "broker_url": url,
        "broker_connection_retry_on_startup": True,
        "broker_transport_options": broker.transport_options(url),
        "broker_use_ssl": broker.tls(url),
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,  # what happened is in Postgres
        "task_acks_late": True,  # tasks are idempotent; a killed worker's task may run again
        "worker_prefetch_multiplier": 1,
        "worker_direct": True,  # a queue for each node alone, so that a health check asks exactly that one
        "task_queues": broker.queues(url, (*IO_QUEUES, *GENERATION_QUEUES, *TRAINING_QUEUES)),
        "task_default_queue": UPKEEP,
        "task_create_missing_queues": False,
        "task_routes": {task: {"queue": queue} for task, queue in TASK_QUEUES.items()},
        "task_send_sent_event": True,
        "worker_send_task_events": True,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_pool_start_method": "spawn",  # only training@ has processes, and CUDA does not survive a fork
        "worker_soft_shutdown_timeout": 20.0,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "beat_schedule": beat_schedule(),
        "beat_max_loop_interval": MIN_TICK_SECONDS,
        "timezone": "UTC",
    }


app = Celery(
    "explorer",
    include=[
        "app.tasks.community",
        "app.tasks.data_set",
        "app.tasks.echo",
        "app.tasks.engagement",
        "app.tasks.forgetting",
        "app.tasks.generation",
        "app.tasks.persona",
        "app.tasks.publishing",
        "app.tasks.timeline",
        "app.tasks.training",
    ],
)
app.add_defaults(settings)


@signals.setup_logging.connect
def _setup_logging(**_: object) -> None:
    logs.configure()


@signals.task_prerun.connect
def _bind_task(task_id: str, task: Any, **_: object) -> None:
    structlog.contextvars.bind_contextvars(task=task.name, task_id=task_id)


@signals.task_postrun.connect
def _unbind_task(**_: object) -> None:
    structlog.contextvars.clear_contextvars()
