"""Explorer: a bot on X that joins a community and learns what that community answers to.

`celery -A app` asks this package for an attribute `app`; it is handed over on demand, so that
`import app` alone costs next to nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery import Celery

__version__ = "0.1.0"

# Generation and training share the processor. libgomp's threads spin while they wait for one another, so that beside
# another busy process a matrix product of 0.5 ms took 8 (two cores, torch 2.13). It reads this when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def __getattr__(name: str) -> Celery:
    if name == "app":
        # Imported on demand: `import app.config` must not pay for Celery.
        # The control commands come along, because `celery -A app control` takes only those that its own process knows.
        import workers.control
        import workers.leash
        import workers.metrics
        import workers.pulse  # noqa: F401 - all register by being imported
        from app.celery import app

        return app
    raise AttributeError(f"module 'app' has no attribute {name!r}")
