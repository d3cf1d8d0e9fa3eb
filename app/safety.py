"""What may be said. To whom and how often is `app/conduct.py`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Refusal:
    """Why a text is not posted: the rule, and the same in words with the values."""

    rule: str
    reason: str
