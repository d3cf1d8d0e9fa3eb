"""The wire to X: tweepy's client on our own adapter.

tweepy has neither a base URL nor a time-out, and its error classes know neither a 402 nor a body that is not the
object they expect. So the adapter rewrites the address, sets time-outs, and raises `Refused` for whatever is not a 2xx
before tweepy sees it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import quote

import requests
import tweepy
from pydantic import SecretStr
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import get_environ_proxies

from app.config import Secrets
from app.x.authorization import Authorization, oauth1_keys

X_ADDRESS = "https://api.twitter.com"
Timeout = float | tuple[float, float]
CONNECT_AND_READ: Timeout = (5.0, 30.0)
MAX_BODY = 32 * 2**20

# At level DEBUG these write signature base strings and Authorization headers.
for _name in ("oauthlib", "requests_oauthlib", "tweepy", "urllib3"):
    logging.getLogger(_name).setLevel(logging.INFO)


@dataclass(frozen=True)
class Answer:
    """What X answered: status, headers, and the body if it is a JSON object."""

    status: int
    headers: Mapping[str, str]
    body: dict[str, Any] | None


class Refused(Exception):
    """X answered with something else than a 2xx."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class Redactor:
    """Takes our secrets out of texts that come back from the wire, where a proxy may echo what we sent."""

    def __init__(self, secrets: Iterable[SecretStr | None]) -> None:
        values = [secret.get_secret_value() for secret in secrets if secret is not None]
        # A secret of a few letters would blacken ordinary words, and protects nothing.
        self._values = {form for value in values if len(value) >= 8 for form in (value, quote(value, safe=""))}

    def __call__(self, text: str, also: str = "") -> str:
        """The text without them, and without one more that only this time is one."""
        for value in (*self._values, also):
            text = text.replace(value, "***") if value else text
        return text


class _Masked(str):
    """A header value that does not show itself when a traceback prints local variables."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class Readdressed(HTTPAdapter):
    """Sends requests meant for `X_ADDRESS` to `base_url`, with time-outs."""

    def __init__(self, base_url: str, timeout: Timeout) -> None:
        super().__init__(pool_maxsize=10)
        self._base_url = base_url.rstrip("/")
        self._timeout = timeout

    def send(  # type: ignore[override] # the base class spells out arguments that only pass through here
        self,
        request: requests.PreparedRequest,
        **options: Any,
    ) -> requests.Response:
        options["timeout"] = self._timeout
        if self._base_url != X_ADDRESS:
            # OAuth 1.0a has signed the original address, which the other side must know to verify.
            request.url = self._base_url + request.path_url
            options["proxies"] = get_environ_proxies(request.url)
        if "Authorization" in request.headers:
            request.headers["Authorization"] = _Masked(_text(request.headers["Authorization"]))
        return super().send(request, **options)


class XAdapter(Readdressed):
    """As that, and raises on any other status than 2xx."""

    def __init__(self, base_url: str, timeout: Timeout, redact: Redactor) -> None:
        super().__init__(base_url, timeout)
        self._redact = redact

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
        response = super().send(request, **options)
        if not 200 <= response.status_code < 300:
            raise Refused(self.read(response))
        return response

    def read(self, response: requests.Response) -> Answer:
        """Reads a response to its end. The body is None if it is not a JSON object."""
        with response:
            raw = self._redact(response.content[:MAX_BODY].decode("utf-8", "replace"), _bearer_of(response.request))
        try:
            body = json.loads(raw)
        except (ValueError, RecursionError):
            body = None
        return Answer(
            status=response.status_code,
            headers=CaseInsensitiveDict(response.headers),
            body=body if isinstance(body, dict) else None,
        )


@dataclass(frozen=True)
class Exchange:
    """One request and what came of it: an answer, or an exception of `requests`, and how long it took."""

    answer: Answer | None
    failure: requests.RequestException | None
    wall_ms: float


class _Client(tweepy.Client):  # type: ignore[misc] # tweepy has no types
    """tweepy's client, which for OAuth 2.0 would ask X for the id of its user, past our windows and budget."""

    def __init__(self, user_id: str) -> None:
        super().__init__(return_type=requests.Response, wait_on_rate_limit=False)
        self._user_id = user_id

    def _get_authenticating_user_id(self, *, oauth_1: bool = False) -> str:  # noqa: ARG002 - tweepy's signature
        return self._user_id


class Wire:
    """tweepy's client, whose requests are authorized by `authorization` and not by tweepy."""

    def __init__(self, user_id: str, secrets: Secrets, timeout: Timeout, authorization: Authorization) -> None:
        redact = Redactor([*oauth1_keys(secrets).values(), secrets.x_client_secret])
        self.authorization = authorization
        self._adapter = XAdapter(secrets.x_base_url, timeout, redact)
        self.client = _Client(user_id)
        self.client.session.auth = authorization
        self.client.session.mount(X_ADDRESS, self._adapter)
        self.client.session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def exchange(self, call: Callable[[], requests.Response]) -> Exchange:
        """Makes one request; does not raise for what the network or X did to it."""
        began = time.perf_counter()
        answer: Answer | None = None
        failure: requests.RequestException | None = None
        try:
            answer = self._adapter.read(call())
        except Refused as refused:
            answer = refused.answer
        except requests.RequestException as error:
            failure = error
        return Exchange(answer, failure, wall_ms=(time.perf_counter() - began) * 1000)

    def close(self) -> None:
        self.client.session.close()


def _text(header: str | bytes) -> str:
    return header.decode("latin-1") if isinstance(header, bytes) else header


def _bearer_of(request: requests.PreparedRequest) -> str:
    """The bearer token that a request was sent with, empty if it was none."""
    scheme, _, token = _text(request.headers.get("Authorization", "")).partition(" ")
    return token if scheme == "Bearer" else ""
