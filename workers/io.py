"""The I/O worker: talks to X and Postgres. Start as many as there is work for; none of them ever imports torch.

python -m workers.io [--name NAME] [--concurrency N]
"""

from __future__ import annotations

import argparse
import os

from app import app
from app.celery import IO_QUEUES
from workers import metrics


def arguments(name: str, concurrency: int) -> list[str]:
    """The arguments of `celery worker`. Threads, because the work is waiting for answers."""
    return [
        "worker",
        f"--hostname={name}@%h",
        f"--queues={','.join(IO_QUEUES)}",
        "--pool=threads",
        f"--concurrency={concurrency}",
        "--without-gossip",
        "--without-mingle",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m workers.io", description=__doc__)
    parser.add_argument("--name", default=f"io-{os.getpid()}", help="node name before the @; must be unique")
    parser.add_argument("--concurrency", type=int, default=4, help="requests to X under way at once")
    options = parser.parse_args()
    metrics.serve("io")
    app.worker_main(arguments(options.name, options.concurrency))


if __name__ == "__main__":
    main()
