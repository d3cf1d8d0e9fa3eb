"""Who may use the console: one password, a signed cookie, a token in every form, a record of every action.

Follows OWASP's cheat sheets on session management and on cross-site request forgery.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from typing import Annotated, Any

from fastapi import Depends, Form, HTTPException, Request, Response
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint

SESSION_SECONDS = 12 * 3600
FAILURES, WAIT_SECONDS = 5, 30.0  # wrong passwords in a row, after which nobody may try for a while


def policy(*forms_end_at: str) -> str:
    """What a page may do. Its forms go to the console, and from there to these origins at most."""
    forms = " ".join(("'self'", *forms_end_at))
    return f"default-src 'self'; img-src 'self' data:; form-action {forms}; frame-ancestors 'none'; base-uri 'none'"


POLICY = policy()
# sqladmin's pages hold scripts and styles of their own making.
ADMIN_POLICY = POLICY.replace("default-src 'self'", "default-src 'self' 'unsafe-inline'")


class NotSignedInError(Exception):
    """Nobody has signed in with this cookie, or it is too long ago."""


class Password:
    """The console's password, and how often it was guessed wrong."""

    def __init__(self, password: str) -> None:
        self._password = password.encode()
        self._failures = 0
        self._until = 0.0
        self._lock = threading.Lock()

    def check(self, guess: str) -> bool:
        """Whether a guess is right.

        Raises:
            HTTPException: 429, too many were wrong a moment ago.
        """
        with self._lock:
            now = time.monotonic()
            if now < self._until:
                raise HTTPException(429, f"too many wrong passwords; try again in {self._until - now:.0f} s")
            right = hmac.compare_digest(guess.encode(), self._password)
            self._failures = 0 if right else self._failures + 1
            if self._failures >= FAILURES:
                self._failures, self._until = 0, now + WAIT_SECONDS
            return right


def sign_in(request: Request) -> None:
    """A new session, with a token of its own: what was in the cookie before is not carried over."""
    request.session.clear()
    request.session.update(signed_in=time.time(), token=secrets.token_urlsafe(32))


def is_signed_in(session: dict[str, Any]) -> bool:
    return time.time() - float(session.get("signed_in", 0.0)) < SESSION_SECONDS


def signed_in(request: Request) -> None:
    """A dependency of every page but the login.

    Raises:
        NotSignedInError: the app answers it with the login.
    """
    if not is_signed_in(request.session):
        raise NotSignedInError


def own_form(request: Request, token: Annotated[str, Form()] = "") -> None:
    """A dependency of every action: the form must come from a page of this session.

    Raises:
        HTTPException: 403, it does not.
    """
    signed_in(request)
    if not hmac.compare_digest(token, str(request.session.get("token", ""))) or not token:
        raise HTTPException(403, "this form is not from this session; go back, reload the page and try again")


SignedIn = Depends(signed_in)
OwnForm = Depends(own_form)


class Headers(BaseHTTPMiddleware):
    """What a browser is told on every answer."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        answer = await call_next(request)
        usual = ADMIN_POLICY if request.url.path.startswith("/admin") else POLICY
        answer.headers.setdefault("Content-Security-Policy", usual)
        answer.headers["X-Content-Type-Options"] = "nosniff"
        answer.headers["Referrer-Policy"] = "same-origin"
        if not request.url.path.startswith("/static"):
            answer.headers["Cache-Control"] = "no-store"
        return answer
