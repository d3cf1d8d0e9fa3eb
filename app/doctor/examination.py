"""Carrying the checks out, in an order in which none drowns in the fault of an earlier one."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from app.doctor.findings import AtFault, Check, Finding, NotExamined

if TYPE_CHECKING:
    from app.doctor.setup import Setup

ROOMS = ("configuration", "database", "broker", "sharing", "x", "model", "storage", "workforce")
OLDEST_PYTHON = (3, 11)  # requires-python of pyproject.toml


def examine(config_file: Path, *, running: bool = False, only: Collection[str] = ROOMS) -> Iterator[Finding]:
    """Everything there is to find about a set-up, one finding after the other as they come.

    Args:
        config_file: the bot's config.
        running: whether the services should run; their checks take some twenty seconds where they do not.
        only: the rooms whose checks are wanted; what those need is looked at too.
    """
    python = _python()
    yield python
    if python.state != "ok":
        return
    # Only now: the rest of the code does not load on an older Python.
    from app.doctor.setup import Setup

    setup = Setup(config_file, running=running)
    try:
        yield from carry_out(_wanted(only), setup)
    finally:
        setup.close()


def _wanted(only: Collection[str]) -> list[Check]:
    """The checks of these rooms and all that they need, in the order of the rooms."""
    by_room: dict[str, Sequence[Check]] = {room: import_module(f"app.doctor.{room}").CHECKS for room in ROOMS}
    wanted: set[str] = set()
    # From the last to the first: a check needs none that comes after it.
    for room, checks in reversed(by_room.items()):
        for check in reversed(checks):
            if room in only or check.name in wanted:
                wanted |= {check.name, *check.needs}
    return [check for checks in by_room.values() for check in checks if check.name in wanted]


def carry_out(checks: Sequence[Check], setup: Setup) -> Iterator[Finding]:
    """The findings of these checks, in their order; no text holds a secret of the set-up."""
    barred: dict[str, str] = {}
    for check in checks:
        found = _findings(check, setup, barred)
        if found[0].state == "fault":
            barred[check.name] = f"because {check.name} is at fault"
        elif found[0].state == "skipped":
            # What began it is worth more than the last link of the chain.
            began = next((barred[name] for name in check.needs if name in barred), None)
            barred[check.name] = began or f"because {check.name} was skipped"
        yield from (_redacted(finding, setup) for finding in found)


def _findings(check: Check, setup: Setup, barred: dict[str, str]) -> list[Finding]:
    """What one check finds; `barred` has the checks that did not pass, and what to say of those that need them."""
    from sqlalchemy.exc import SQLAlchemyError  # both after Python's version is known to do

    from app.doctor.database import trouble

    for needed in check.needs:
        if needed in barred:
            return [Finding(check.name, "skipped", barred[needed])]
    try:
        return [Finding(check.name, "ok", check.examine(setup))]
    except NotExamined as reason:
        return [Finding(check.name, "skipped", str(reason))]
    except AtFault as fault:
        wrong = fault.wrong
    except SQLAlchemyError as error:
        wrong = (trouble(error),)
    return [Finding(check.name, "fault", one.problem, one.setting, one.remedy) for one in wrong]


def _redacted(finding: Finding, setup: Setup) -> Finding:
    if not hasattr(setup, "secrets"):
        return finding
    from app.doctor.configuration import secrets_of  # after Python's version is known to do
    from app.x.transport import Redactor

    redact = Redactor(secrets_of(setup.secrets))
    return replace(finding, message=redact(finding.message), remedy=redact(finding.remedy) if finding.remedy else None)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] >= OLDEST_PYTHON:
        return Finding("python", "ok", version)
    wanted = ".".join(map(str, OLDEST_PYTHON))
    remedy = f"install Python {wanted} or later, and make the virtual environment anew with it"
    return Finding("python", "fault", f"got {version}", "python", remedy)
