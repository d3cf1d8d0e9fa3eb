"""Where settings come from when the environment does not have them: `.env`, and the stack that `explorer up` started.

`explorer up` picks free ports and random passwords and leaves them in `data/local/running.env` while it runs, so
that `celery -A app …` and `alembic …` in another terminal speak to the same servers. What the environment says wins
over both files, and the running stack over `.env`.
"""

from __future__ import annotations

import os
from pathlib import Path

from dotenv import dotenv_values, load_dotenv

RUNNING = Path("data/local/running.env")
SUPERVISOR = "EXPLORER_SUPERVISOR_PID"


def adopt() -> None:
    """Add to the environment what the files say and it does not. Entry points call this once, before reading config."""
    if _is_alive(dotenv_values(RUNNING).get(SUPERVISOR)):
        load_dotenv(RUNNING, override=False)
    load_dotenv(Path(".env"), override=False)


def _is_alive(pid: str | None) -> bool:
    """Whether the process that left the file is still there; one that was killed could not take it back."""
    if not pid:
        return False
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def announce(settings: dict[str, str]) -> None:
    """Leave the addresses of a running stack for other terminals of the same user."""
    RUNNING.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(RUNNING, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.writelines(f"{name}='{value}'\n" for name, value in {**settings, SUPERVISOR: os.getpid()}.items())


def retract() -> None:
    RUNNING.unlink(missing_ok=True)
