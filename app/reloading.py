"""Telling the running bot that another checkpoint is current."""

from __future__ import annotations

import structlog
from kombu.exceptions import OperationalError

from app.celery import app

log = structlog.get_logger()


def announce() -> bool:
    """Have the generation node compare its pointer now. It would before its next batch, so silence is no error.

    Returns:
        Whether the broker took the message.
    """
    try:
        app.control.broadcast("reload_checkpoint")
    except OperationalError as error:
        log.warning("reload.not_announced", reason=str(error))
        return False
    return True
