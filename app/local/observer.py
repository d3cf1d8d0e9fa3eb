"""The sandbox's own account of what happened in it: what the demo is audited against.

Only the demo, the proofs and the tests look through here. The bot cannot: it speaks X's API and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import requests

from app.text import canonical

PUBLISHING = frozenset({"post", "reply", "quote"})


@dataclass(frozen=True)
class Write:
    """A write request as the sandbox received it."""

    kind: str
    text: str
    target: str | None
    status: int
    x_post_id: str | None

    @property
    def published(self) -> bool:
        return self.kind in PUBLISHING and 200 <= self.status < 300


class Observer:
    """A client of the sandbox's control API."""

    def __init__(self, base_url: str) -> None:
        self._base = f"{base_url.rstrip('/')}/_sandbox"
        self._session = requests.Session()

    def get(self, path: str) -> Any:
        response = self._session.get(f"{self._base}/{path}", timeout=30)
        response.raise_for_status()
        return response.json()

    def post(self, path: str, body: Any) -> Any:
        response = self._session.post(f"{self._base}/{path}", json=body, timeout=120)
        response.raise_for_status()
        return response.json()

    def handles(self, limit: int) -> list[str]:
        """Handles of members of the community, the most followed first."""
        members = sorted(self.get("members"), key=lambda member: -member["followers"])
        return [member["handle"] for member in members[:limit]]

    def api_calls(self) -> int:
        return int(sum(self.get("summary")["calls"].values()))

    def writes(self) -> list[Write]:
        """Every write request ever received, in order."""
        return [
            Write(
                kind=row["kind"],
                text=row["text"] or "",
                target=row["target"],
                status=row["status"],
                x_post_id=row["id"],
            )
            for row in self.get("record")
        ]


def duplicates(writes: list[Write]) -> int:
    """How many published texts repeat an earlier one, by their text or by (kind, target)."""
    seen: set[tuple[str, ...]] = set()
    repeats = 0
    for write in writes:
        if not write.published:
            continue
        keys: set[tuple[str, ...]] = {("text", canonical(write.text))}
        if write.target is not None:
            keys.add(("target", write.kind, write.target))
        repeats += bool(keys & seen)
        seen |= keys
    return repeats
