"""How logging is set up: by whatever starts a process, and more than once where a command runs in a test."""

from __future__ import annotations

import structlog

from app import logs


def test_a_logger_first_used_between_two_configurations_is_heard_by_a_later_reader():
    logs.configure()
    log = structlog.get_logger("test_logs")
    log.info("first")
    logs.configure()
    with structlog.testing.capture_logs() as records:
        log.info("second", at=1)
    assert records == [{"event": "second", "at": 1, "log_level": "info"}]
