"""How the threads of a process that has the processor to itself wait for one another."""

from __future__ import annotations

import os

# Turns of a loop before a waiting thread sleeps. A batch took 9.6 s with so many, 10.4 with 10,000, 12.4 with 1,000.
SPINS = "100000"


def have_the_processor() -> None:
    """Let waiting threads spin before they sleep, as those of no worker do (`app/__init__.py`).

    To be called before torch is imported, which reads it once.

    On two cores with nothing else to do, 39 replies of SmolLM2-135M took 9.6 s instead of 14.5. Beside one busy process
    they took 58 s instead of 16: whoever runs two backtests side by side gives each a thread (`OMP_NUM_THREADS=1`), or
    sets `GOMP_SPINCOUNT=0`, which stays as it is set.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
