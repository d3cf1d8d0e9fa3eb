"""What a process may do that has the machine to itself, as no worker has."""

from __future__ import annotations

import ctypes
import os

# Turns of a loop before a waiting thread sleeps. A batch took 9.6 s with so many, 10.4 with 10,000, 12.4 with 1,000.
SPINS = "100000"
# Options of glibc's mallopt(3), and bytes. No tensor of a pass is larger than the last.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
NEVER, STEP, LARGEST = 2**31 - 1, 2**28, 2**29


def have_the_machine() -> None:
    """Let waiting threads spin before they sleep, and keep what was freed. To be called before torch is imported.

    On two cores with nothing else to do, 39 replies of SmolLM2-135M took 9.6 s instead of 14.5 with threads that spin.
    Beside one busy process they took 58 s instead of 16: whoever runs two backtests side by side gives each a thread
    (`OMP_NUM_THREADS=1`), or sets `GOMP_SPINCOUNT=0`, which stays as it is set. No worker does it (`app/__init__.py`).

    A forward pass frees and takes hundreds of megabytes. glibc gives large pieces back to the system, which clears
    their pages anew: with them kept, scoring 48 drafts took 21 s instead of 23. Elsewhere than with glibc nothing
    changes.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, size in ((M_MMAP_THRESHOLD, LARGEST), (M_TRIM_THRESHOLD, NEVER), (M_TOP_PAD, STEP)):
            mallopt(option, size)
