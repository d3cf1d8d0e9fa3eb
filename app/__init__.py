"""Explorer: a bot on X that joins a community and learns what that community answers to.

`celery -A app` asks this package for an attribute `app`; it is handed over on demand, so that
`import app` alone costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery import Celery

__version__ = "0.1.0"


def __getattr__(name: str) -> Celery:
    if name == "app":
        # Imported on demand: `import app.config` must not pay for Celery.
        from app.celery import app

        return app
    raise AttributeError(f"module 'app' has no attribute {name!r}")
