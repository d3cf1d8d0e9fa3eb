"""The GPU service: two Celery nodes under one supervisor, because one pool has no lanes.

- `generation@` is one thread with the model resident; it answers control commands while it writes.
- `training@` is a spawned process per task: limits of time and memory that hold, memory that comes back, killable. It
  runs at a lower priority and is the first to go when memory runs out.

    python -m workers.gpu
"""

from __future__ import annotations

import os
import signal
import sys
import time
from types import FrameType

from app import logs
from app.celery import GENERATION_QUEUES, TRAINING_QUEUES
from workers import leash, metrics
from workers.supervisor import Service, Supervisor

TRAINING_LIMIT_SECONDS = 6 * 3600
LAST_WORDS_SECONDS = 300  # after which a run that was told to end, and has not written down why, is killed


def services() -> list[Service]:
    celery = [sys.executable, "-m", "celery", "-A", "app", "worker", "--without-gossip", "--without-mingle"]
    generation = [
        *celery,
        "--hostname=generation@%h",
        f"--queues={','.join(GENERATION_QUEUES)}",
        "--pool=threads",
        "--concurrency=1",
    ]
    training = [
        *celery,
        "--hostname=training@%h",
        f"--queues={','.join(TRAINING_QUEUES)}",
        "--pool=prefork",
        "--concurrency=1",
        "--max-tasks-per-child=1",
        f"--soft-time-limit={TRAINING_LIMIT_SECONDS}",
        f"--time-limit={TRAINING_LIMIT_SECONDS + LAST_WORDS_SECONDS}",
    ]
    return [
        Service("generation", generation, env=_half_the_threads()),
        Service("training", training, env=_half_the_threads(), nice=10, oom_score=500),
    ]


def _half_the_threads() -> dict[str, str]:
    """`OMP_NUM_THREADS` for each node, unless the operator has set it: half of the processor for either.

    A step of a small model is a thousand short parallel regions, and each waits for its slowest thread, so that more
    threads than free cores stall each other. On two free cores, two threads wrote ten drafts no faster than one.
    """
    return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 2) // 2)))}


def main() -> None:
    logs.configure()
    leash.hold()
    supervisor = Supervisor(services(), grace_seconds=25)
    stopping = False

    def stop(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    supervisor.start()
    metrics.serve("gpu", supervisor.pids)
    while not stopping:
        supervisor.tend()
        time.sleep(0.5)
    supervisor.stop()


if __name__ == "__main__":
    main()
