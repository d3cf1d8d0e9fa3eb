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
from app.loading import ConfigError, WrongSetting

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

    def __call__(self, text: str) -> str:
        for value in self._values:
            text = text.replace(value, "***")
        return text


class _Masked(str):
    """A header value that does not show itself when a traceback prints local variables."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class XAdapter(HTTPAdapter):
    """Sends requests meant for `X_ADDRESS` to `base_url`, with time-outs, and raises on any other status than 2xx."""

    def __init__(self, base_url: str, timeout: Timeout, redact: Redactor) -> None:
        super().__init__(pool_maxsize=10)
        self._base_url = base_url.rstrip("/")
        self._timeout = timeout
        self._redact = redact

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
        response = super().send(request, **options)
        if not 200 <= response.status_code < 300:
            raise Refused(self.read(response))
        return response

    def read(self, response: requests.Response) -> Answer:
        """Reads a response to its end. The body is None if it is not a JSON object."""
        with response:
            raw = self._redact(response.content[:MAX_BODY].decode("utf-8", "replace"))
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


class Wire:
    """tweepy's client in OAuth 1.0a user context. https://docs.x.com/fundamentals/authentication/oauth-1-0a/"""

    def __init__(self, user_id: str, secrets: Secrets, timeout: Timeout) -> None:
        check_credentials(user_id, secrets)
        redact = Redactor(_keys(secrets).values())
        self._adapter = XAdapter(secrets.x_base_url, timeout, redact)
        self.client = tweepy.Client(
            consumer_key=_value(secrets.x_api_key),
            consumer_secret=_value(secrets.x_api_secret),
            access_token=_value(secrets.x_access_token),
            access_token_secret=_value(secrets.x_access_token_secret),
            return_type=requests.Response,
            wait_on_rate_limit=False,
        )
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


def check_credentials(user_id: str, secrets: Secrets) -> None:
    """Whether all four keys are there and belong to the account.

    Raises:
        ConfigError: naming the variables; never showing a value.
    """
    missing = [name for name, secret in _keys(secrets).items() if not _value(secret)]
    if missing:
        remedy = (
            "take the keys from the app's page on console.x.com and put them into .env (.env.example says where each "
            "is found)"
        )
        names = ", ".join(missing)
        raise ConfigError(f"environment: {names} missing; {remedy}", [WrongSetting(names, "missing", remedy)])
    owner = _value(secrets.x_access_token).partition("-")[0]
    if owner != user_id:
        belongs = f"belongs to user {owner}" if owner.isdigit() and len(owner) < 20 else "names no user"
        problem = f"{belongs}, but user_id is {user_id}"
        remedy = (
            "an access token begins with the id of its account and a hyphen: make one for the bot's account, or "
            "correct user_id"
        )
        wrong = WrongSetting("X_ACCESS_TOKEN", problem, remedy)
        raise ConfigError(f"environment: X_ACCESS_TOKEN {problem}; {remedy}", [wrong])


def _keys(secrets: Secrets) -> dict[str, SecretStr | None]:
    return {
        "X_API_KEY": secrets.x_api_key,
        "X_API_SECRET": secrets.x_api_secret,
        "X_ACCESS_TOKEN": secrets.x_access_token,
        "X_ACCESS_TOKEN_SECRET": secrets.x_access_token_secret,
    }


def _value(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret is not None else ""


def _text(header: str | bytes) -> str:
    return header.decode("latin-1") if isinstance(header, bytes) else header
