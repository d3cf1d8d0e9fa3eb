"""OAuth 2.0 tokens of the bot's user: pairs of an access and a refresh token, kept with the state.

As X has it: the user's consent gives a code, and the code with its PKCE verifier a first pair. An access token lives
two hours of world time; a refresh token is good for one use, gives a new pair, and when it is used again every token of
its family is void, until the user consents anew
(https://docs.x.com/fundamentals/authentication/oauth-2-0/authorization-code).
"""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64encode
from hashlib import blake2b, sha256
from typing import Any

from app.sandbox.auth import same
from app.sandbox.store import Code, Store

LIFE_MS = 2 * 60 * 60 * 1000
# Wall time, unlike all else here: it bounds how long a client takes, not anything that happens in the world.
CODE_LIFE_MS = 30 * 1000
SCOPES = "tweet.read tweet.write users.read follows.read follows.write like.read offline.access"


class InvalidGrant(Exception):
    """A code or a token that gives nothing. The message is X's."""


class Tokens:
    """The tokens of one state."""

    def __init__(self, store: Store, seed: int) -> None:
        self._store, self._seed = store, seed

    def code(self, challenge: str, redirect_uri: str, scope: str, wall_ms: int) -> str:
        """The code that a user's consent on the page comes to. Call it in a transaction."""
        code = secrets.token_urlsafe(32)
        self._store.add_code(code, Code(challenge, redirect_uri, scope, wall_ms + CODE_LIFE_MS))
        return code

    def exchange(self, code: str, verifier: str, redirect_uri: str, *, now_ms: int, wall_ms: int) -> dict[str, Any]:
        """The first pair of a new family for a code and its verifier (RFC 7636, S256). Call it in a transaction.

        Raises:
            InvalidGrant: the code was used, is over, or was given for another verifier or address. It is used up.
        """
        found = self._store.take_code(code)
        if found is None or wall_ms >= found.expires_ms:
            raise InvalidGrant("Value passed for the authorization code was invalid.")
        if not same(redirect_uri, found.redirect_uri):
            raise InvalidGrant("Value passed for the redirect uri did not match the uri of the authorization code.")
        hashed = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        if not same(hashed, found.challenge):
            raise InvalidGrant("Value passed for the code verifier did not match the code challenge.")
        return self.consent(now_ms, found.scope)

    def consent(self, now_ms: int, scope: str = SCOPES) -> dict[str, Any]:
        """The answer that a user's consent comes to: a first pair of a new family. Call it in a transaction."""
        family = self._store.count_tokens()
        self._store.add_consent(family, scope)
        return self._pair(family, now_ms)

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

    def revoke(self, token: str) -> None:
        """Void the family of a token, whichever of the two kinds it is (RFC 7009); an unknown one is void already."""
        found = self._store.token(token)
        if found is not None:
            self._store.void_family(found.family)

    def is_good(self, token: str, now_ms: int) -> bool:
        """Whether an access token opens anything now."""
        found = self._store.token(token)
        return found is not None and found.kind == "access" and not found.void and now_ms < found.expires_ms

    def _pair(self, family: int, now_ms: int) -> dict[str, Any]:
        """A pair; without the scope offline.access, an access token alone."""
        scope = self._store.consent(family) or SCOPES  # a state of an older version has none
        pair = {}
        for kind, life in (("access", LIFE_MS), ("refresh", 0)):
            if kind == "refresh" and "offline.access" not in scope.split():
                continue
            number = self._store.count_tokens()
            body = blake2b(f"{self._seed} {kind} {number}".encode(), digest_size=24).hexdigest()
            pair[f"{kind}_token"] = f"sandbox-{kind}-{body}"
            self._store.add_token(pair[f"{kind}_token"], kind, family, now_ms + life)
        return {"token_type": "bearer", "expires_in": LIFE_MS // 1000, **pair, "scope": scope}
