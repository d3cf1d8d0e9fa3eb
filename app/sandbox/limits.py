"""Rate limits: a window of 15 minutes of world time per endpoint, a day where there is one, with X's headers."""

from __future__ import annotations

from dataclasses import dataclass

from app.sandbox.api.endpoint import Endpoint
from app.sandbox.problems import Json
from app.sandbox.store import Store

WINDOW_MS = 15 * 60 * 1000
DAY_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True)
class Verdict:
    """Whether a request may go on, and the headers that its answer carries."""

    allowed: bool
    headers: dict[str, str]


def take(store: Store, endpoint: Endpoint, now_ms: int) -> Verdict:
    """Use up one request of the endpoint's windows. A refused request uses none."""
    quotas = [("", endpoint.limit, WINDOW_MS)]
    if endpoint.daily_limit:
        quotas.append(("24hour", endpoint.daily_limit, DAY_MS))
    windows = [_window(store, f"{endpoint.name} {name}".strip(), span, now_ms) for name, _, span in quotas]
    allowed = all(used < limit for (_, used), (_, limit, _) in zip(windows, quotas, strict=True))
    headers: dict[str, str] = {}
    for (started, used), (name, limit, span) in zip(windows, quotas, strict=True):
        now_used = used + allowed
        store.set_window(f"{endpoint.name} {name}".strip(), started, now_used)
        for prefix in ("x-app-limit-24hour", "x-user-limit-24hour") if name else ("x-rate-limit",):
            headers[f"{prefix}-limit"] = str(limit)
            headers[f"{prefix}-remaining"] = str(limit - now_used)
            headers[f"{prefix}-reset"] = str(-(-(started + span) // 1000))
    return Verdict(allowed, headers)


def _window(store: Store, name: str, span: int, now_ms: int) -> tuple[int, int]:
    started, used = store.window(name)
    return (started, used) if now_ms < started + span else (now_ms, 0)


def refusal() -> Json:
    """The body of a 429: X's code 88, in a problem that the OpenAPI description allows."""
    return {
        "errors": [{"code": 88, "message": "Rate limit exceeded"}],
        "title": "Too Many Requests",
        "detail": "Too Many Requests",
        "type": "about:blank",
        "status": 429,
    }
