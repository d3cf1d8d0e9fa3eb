"""Bearer tokens that are renewed, by one of all the processes that use them.

A refresh token is good for one use, and a second use voids every token of its family. So whoever finds the access token
due takes a lease, reads the row again (somebody else may have renewed it), asks X once, and commits. It is a lease and
not a lock on the row because it is committed before the request leaves: where PostgreSQL is killed meanwhile, nobody
else may use the token before the one who has X's answer could store it.

A process that dies between X's answer and its commit takes the family's only good token with it. That window is the
sealing and one UPDATE; nothing closes it, as X keeps no copy. When its lease has run out the next one asks with the old
token, is refused, and keeps that: from then on every request raises Unauthorized with the remedy, without asking X.
"""

from __future__ import annotations

import time
from datetime import timedelta

import structlog
from requests import PreparedRequest
from sqlalchemy.exc import OperationalError
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from app import clock, leases
from app.config import Secrets
from app.leases import LeaseTaken
from app.x import errors, oauth2
from app.x.authorization import Authorization
from app.x.oauth2 import Pair
from app.x.tokens import Stored, TokenStore

LEASE = "oauth2 renewal"
# Wall time. A request takes 35 s at most, storing what it gave no longer than STORING_SECONDS: the lease covers both.
LEASE_SECONDS = 60.0
STORING_SECONDS = 20.0
# Longer than a renewal takes that goes well. A thread does not wait for a process that died; its task comes back.
PATIENCE = timedelta(seconds=20)
LOOK_AGAIN_SECONDS = 0.1
log = structlog.get_logger()


class RenewedBearer(Authorization):
    """The bot's access token, good at every request. Threads and processes may share it."""

    def __init__(self, store: TokenStore, secrets: Secrets) -> None:
        self._store = store
        self._secrets = secrets
        self._held: Stored | None = None

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        held = self._held
        if held is None:
            raise RuntimeError("a request to X was made without `ready` before it")
        request.headers["Authorization"] = f"Bearer {held.access.get_secret_value()}"
        return request

    def ready(self) -> Stored:
        """Have an access token that X should take.

        Raises:
            Unauthorized: a person has to log in.
            ServerUnavailable: it is over, and was not renewed; the same may be tried again.
        """
        held = self._held
        if held is None or held.is_due():
            held = self._store.read()
        if held.is_due():
            held = self._renewed(held, usable=not held.is_over())
        self._held = held
        return held

    def renew(self, used: object) -> bool:
        """Have another token than one that X has refused before its time; False if that one is but a minute old."""
        if not isinstance(used, Stored):
            raise TypeError(f"renew takes what `ready` gave, not {type(used).__name__}")
        held = self._store.read()
        if held.sealed == used.sealed:
            if held.is_new():
                return False
            held = self._renewed(held, usable=False)
        self._held = held
        return True

    def _renewed(self, old: Stored, *, usable: bool) -> Stored:
        """The pair after this one, whoever renews it; `usable` is whether the old one will do until then."""
        give_up_at = clock.wall_now() + PATIENCE
        while True:
            try:
                with leases.hold(self._store.db, self._store.bot_id, LEASE, LEASE_SECONDS):
                    now_stored = self._store.read()
                    return self._ask(now_stored) if now_stored.sealed == old.sealed else now_stored
            except LeaseTaken:
                now_stored = self._store.read()
                if usable or now_stored.sealed != old.sealed:
                    return now_stored
            except errors.Retryable as failure:
                if not usable:
                    raise
                log.warning("login.not_renewed", error=str(failure))
                return old
            if clock.wall_now() > give_up_at:
                raise errors.ServerUnavailable("the access token is being renewed by another process", endpoint=LEASE)
            time.sleep(LOOK_AGAIN_SECONDS)

    def _ask(self, old: Stored) -> Stored:
        try:
            pair = oauth2.refresh(self._secrets, old.refresh)
        except errors.Unauthorized as refusal:
            if refusal.status != 401:  # the app's own trouble says nothing of the tokens
                self._store.give_up(old, str(refusal))
                log.error("login.lost", reason=str(refusal))
            raise
        stored = self._put(old, pair)
        log.info("login.renewed", expires_at=stored.expires_at.isoformat())
        return stored

    def _put(self, old: Stored, pair: Pair) -> Stored:
        """Nothing stands between X's answer and this; a database that is away is waited for: there is no other copy."""
        for attempt in Retrying(
            retry=retry_if_exception_type(OperationalError),
            stop=stop_after_delay(STORING_SECONDS),
            wait=wait_fixed(0.5),
            reraise=True,
        ):
            with attempt:
                return self._store.replace(old, pair)
        raise AssertionError("unreachable: the last attempt raises")
