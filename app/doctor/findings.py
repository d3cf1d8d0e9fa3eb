"""What a check is, and what it finds. It loads on an older Python too, so that the doctor can say so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from app.doctor.setup import Setup
    from app.loading import WrongSetting

State = Literal["ok", "fault", "skipped"]


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        check: name of the check.
        message: what is well, what is wrong, or why it was skipped.
        setting: what to change; only of a fault.
        remedy: how; only of a fault.
    """

    check: str
    state: State
    message: str
    setting: str | None = None
    remedy: str | None = None


class AtFault(Exception):
    """A check found something wrong: each of it by setting, problem and remedy."""

    def __init__(self, *wrong: WrongSetting) -> None:
        super().__init__("; ".join(map(str, wrong)))
        self.wrong = wrong


class NotExamined(Exception):
    """A check cannot say anything here, and nothing is wrong with that. The message says why."""


@dataclass(frozen=True)
class Check:
    """One thing to look at.

    Attributes:
        examine: looks at it and says in a few words what is well; raises AtFault or NotExamined otherwise.
        needs: the checks that must have passed before.
    """

    name: str
    examine: Callable[[Setup], str]
    needs: tuple[str, ...] = ()
