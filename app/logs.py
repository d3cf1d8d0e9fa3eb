"""Logs as records: one JSON object a line on standard error, or coloured text on a terminal.

Ids of the task, the bot and the post are bound once and appear in every line below.
"""

from __future__ import annotations

import logging
import os
import sys

import structlog

SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]
# One list for good: a logger keeps the one that it was first used with, so a second `configure` must not bring another.
PROCESSORS: list[structlog.typing.Processor] = [*SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter]


def configure(default_level: str = "INFO") -> None:
    """Route structlog and the standard library through one formatter. `EXPLORER_LOG_LEVEL` sets the level for all."""
    structlog.configure(
        processors=PROCESSORS,
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    render: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if sys.stderr.isatty()
        # Without locals: a frame may hold a secret.
        else [
            structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(),
        ]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(os.environ.get("EXPLORER_LOG_LEVEL", default_level).upper())
    # One line per HTTP request is noise: the ledger has them all.
    for noisy in ("urllib3", "requests_oauthlib", "oauthlib", "httpx", "celery.beat", "celery.worker.strategy"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
