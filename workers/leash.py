"""A process ends with the supervisor that started it, also where that was killed and could tell nobody.

Otherwise the nodes of a GPU service that was killed would live on beside those of the one that is started in its place.
"""

from __future__ import annotations

import os
import signal
import threading
import time

import structlog
from celery import signals

log = structlog.get_logger()

VARIABLE = "EXPLORER_SUPERVISOR"  # in the environment of what a supervisor started: its process id
LOOK_EVERY = 0.5  # seconds


def hold(**_: object) -> None:
    """Watch the supervisor from a thread. Nothing to do in a process that none started."""
    supervisor = os.environ.get(VARIABLE)
    if supervisor is not None:
        threading.Thread(target=_watch, args=(int(supervisor),), name="leash", daemon=True).start()


def _watch(supervisor: int) -> None:
    while os.getppid() == supervisor:
        time.sleep(LOOK_EVERY)
    log.warning("supervisor.gone", supervisor=supervisor)
    # The whole group, which is this process's own: a pool's child would finish its run for nobody.
    os.killpg(0, signal.SIGKILL)


signals.worker_init.connect(hold)
signals.beat_init.connect(hold)
