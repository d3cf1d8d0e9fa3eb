"""The pulse of beat: a file beside its schedule that each tick which the broker took makes new.

beat answers no question, and its process may live on while it sends nothing; the age of this file cannot.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from celery import signals


def pulse_file(schedule: str | Path) -> Path:
    """Where the pulse of a beat with this schedule file is."""
    return Path(f"{schedule}.pulse")


@signals.beat_init.connect
def _start(sender: Any, **_: object) -> None:
    file = pulse_file(sender.schedule_filename)

    def mark(**_: object) -> None:
        file.touch()

    # Held strongly, because nothing else holds a function that was made here.
    signals.after_task_publish.connect(mark, weak=False)
