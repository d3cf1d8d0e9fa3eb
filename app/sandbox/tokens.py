"""OAuth 2.0 tokens of the bot's user: pairs of an access and a refresh token, kept with the state.

As X has it: an access token lives two hours of world time; a refresh token is good for one use, gives a new pair, and
when it is used again every token of its family is void, until the user consents anew
(https://docs.x.com/fundamentals/authentication/oauth-2-0/authorization-code).
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from app.sandbox.store import Store

LIFE_MS = 2 * 60 * 60 * 1000
SCOPES = "tweet.read tweet.write users.read follows.read follows.write like.read offline.access"


class Tokens:
    """The tokens of one state."""

    def __init__(self, store: Store, seed: int) -> None:
        self._store, self._seed = store, seed

    def consent(self, now_ms: int) -> dict[str, Any]:
        """The answer that a user's consent comes to: a first pair of a new family. Call it in a transaction."""
        return self._pair(self._store.count_tokens(), now_ms)

    def refresh(self, token: str, now_ms: int) -> dict[str, Any] | None:
        """A new pair for a refresh token; None, and the whole family void, if it was used before."""
        found = self._store.token(token)
        if found is None or found.kind != "refresh" or found.void:
            return None
        if found.used:
            self._store.void_family(found.family)
            return None
        self._store.use_token(token)
        return self._pair(found.family, now_ms)

    def is_good(self, token: str, now_ms: int) -> bool:
        """Whether an access token opens anything now."""
        found = self._store.token(token)
        return found is not None and found.kind == "access" and not found.void and now_ms < found.expires_ms

    def _pair(self, family: int, now_ms: int) -> dict[str, Any]:
        pair = {}
        for kind, life in (("access", LIFE_MS), ("refresh", 0)):
            number = self._store.count_tokens()
            body = blake2b(f"{self._seed} {kind} {number}".encode(), digest_size=24).hexdigest()
            pair[kind] = f"sandbox-{kind}-{body}"
            self._store.add_token(pair[kind], kind, family, now_ms + life)
        return {
            "token_type": "bearer",
            "expires_in": LIFE_MS // 1000,
            "access_token": pair["access"],
            "refresh_token": pair["refresh"],
            "scope": SCOPES,
        }
