"""OAuth 2.0 with PKCE at X: the consent of the account's user, and tokens for a code or for a refresh token.

The protocol is that of `requests-oauthlib`, as in tweepy's OAuth2UserHandler, whose addresses are fixed.
https://docs.x.com/fundamentals/authentication/oauth-2-0/user-access-token
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import requests
from oauthlib.oauth2 import OAuth2Error
from pydantic import SecretStr
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session

from app.config import Secrets
from app.x import errors
from app.x.errors import XError
from app.x.transport import CONNECT_AND_READ, X_ADDRESS, Readdressed, Redactor, Timeout

SCOPES = ("tweet.read", "tweet.write", "users.read", "follows.read", "follows.write", "like.read", "offline.access")
ENDPOINT = "POST /2/oauth2/token"
TOKEN_ADDRESS = f"{X_ADDRESS}/2/oauth2/token"
AUTHORIZE_PATH = "/i/oauth2/authorize"
X_AUTHORIZE = f"https://x.com{AUTHORIZE_PATH}"
APIS_OF_X = {X_ADDRESS, "https://api.x.com"}
TWO_HOURS = 2 * 60 * 60
LONGEST_LIFE = 365 * 24 * 60 * 60
LOGIN = "run `explorer login`"
# What X says where the app itself is not let in, whatever token it brings.
WRONG_CLIENT = {"unauthorized_client", "invalid_client"}
# X says the first where RFC 6749 has the second.
WRONG_TOKEN = {"invalid_request", "invalid_grant"}


class LoginRefused(ValueError):
    """The login came to nothing, and nothing was stored. The message says why and what to do."""


@dataclass(frozen=True)
class Pair:
    """What X gave: an access token that lives `life` of world time, and a refresh token that is good for one use."""

    access: SecretStr
    refresh: SecretStr
    life: timedelta
    scopes: frozenset[str]


class Consent:
    """One login under way: its state and its PKCE verifier live in this object, and nowhere else."""

    def __init__(self, secrets: Secrets, redirect_uri: str, timeout: Timeout = CONNECT_AND_READ) -> None:
        self._secrets = secrets
        self._session = _session(secrets, timeout, redirect_uri=redirect_uri, scope=list(SCOPES), pkce="S256")
        address, _ = self._session.authorization_url(X_AUTHORIZE)
        base = secrets.x_base_url.rstrip("/")
        # Afterwards, because a sandbox's address may be http, which oauthlib does not take.
        self.address: str = address if base in APIS_OF_X else address.replace(X_AUTHORIZE, base + AUTHORIZE_PATH, 1)
        # X tells what was granted, and `redeem` looks at it: oauthlib would raise a Warning with the tokens in it.
        self._session.scope = None

    def redeem(self, redirected: SecretStr) -> Pair:
        """The tokens for the address that X sent the browser to.

        Raises:
            LoginRefused: consent was denied, the address is of another login, the code is over, or the app is wrong.
        """
        # The address is on this machine's loopback (RFC 8252, section 7.3), where oauthlib would still want TLS.
        address = SecretStr(redirected.get_secret_value().strip().replace("http://", "https://", 1))
        answer = _ask(
            lambda: self._session.fetch_token(
                TOKEN_ADDRESS,
                authorization_response=address.get_secret_value(),
                auth=_basic(self._secrets),
                include_client_id=True,
            ),
            _redactor(self._secrets, address),
        )
        if isinstance(answer, _Refusal):
            raise LoginRefused(_why_refused(answer))
        if isinstance(answer, XError):
            raise LoginRefused(f"X gave no tokens: {answer}; {LOGIN} again")
        if missing := sorted(set(SCOPES) - answer.scopes):
            raise LoginRefused(
                f"X did not grant {', '.join(missing)}; give the app 'Read and write' on console.x.com, and {LOGIN}"
            )
        return answer


def refresh(secrets: Secrets, token: SecretStr, timeout: Timeout = CONNECT_AND_READ) -> Pair:
    """A new pair for a refresh token, which is used up then.

    Raises:
        Unauthorized: X takes it no more (status 400), or not from this app (status 401).
        ServerUnavailable: no usable answer; X may have used it up all the same.
    """
    answer = _ask(
        lambda: _session(secrets, timeout).refresh_token(
            TOKEN_ADDRESS, refresh_token=token.get_secret_value(), auth=_basic(secrets)
        ),
        _redactor(secrets, token),
    )
    if isinstance(answer, _Refusal):
        if answer.error in WRONG_CLIENT:
            raise errors.Unauthorized(
                f"X does not take the app ({answer}); correct X_CLIENT_ID and X_CLIENT_SECRET",
                endpoint=ENDPOINT,
                status=401,
            )
        if answer.error in WRONG_TOKEN:
            raise errors.Unauthorized(
                f"X takes the refresh token no more ({answer}); {LOGIN}", endpoint=ENDPOINT, status=400
            )
        raise errors.ServerUnavailable(f"no token now ({answer})", endpoint=ENDPOINT)
    if isinstance(answer, XError):
        raise answer
    return answer


@dataclass(frozen=True)
class _Refusal:
    """What X said no with, by RFC 6749, section 5.2."""

    error: str
    description: str

    def __str__(self) -> str:
        return f"{self.error}: {self.description}" if self.description else self.error


class _NoAnswer(requests.RequestException):
    """An answer that says nothing of the tokens."""


def _ask(call: Callable[[], Mapping[str, Any]], redact: Redactor) -> Pair | _Refusal | XError:
    """What came of it. It returns errors, because an exception would carry the secrets in its traceback's frames."""
    try:
        return _pair(call())
    except OAuth2Error as refusal:
        if refusal.error != "missing_token":
            return _Refusal(str(refusal.error), redact(" ".join(str(refusal.description or "").split()))[:300])
        return errors.ServerUnavailable("the answer holds no token", endpoint=ENDPOINT)
    except _NoAnswer as failure:
        return errors.ServerUnavailable(str(failure), endpoint=ENDPOINT)
    except requests.RequestException as failure:
        return errors.ServerUnavailable(f"no answer ({type(failure).__name__})", endpoint=ENDPOINT)
    except (ValueError, TypeError):
        return errors.ServerUnavailable("the answer cannot be read", endpoint=ENDPOINT)


def _pair(told: Mapping[str, Any]) -> Pair:
    return Pair(
        access=SecretStr(str(told["access_token"])),
        refresh=SecretStr(str(told.get("refresh_token") or "")),
        life=timedelta(seconds=min(max(int(told.get("expires_in") or TWO_HOURS), 1), LONGEST_LIFE)),
        scopes=frozenset(told.get("scope") or SCOPES),  # nothing said means as asked (RFC 6749, section 5.1)
    )


def _session(secrets: Secrets, timeout: Timeout, **options: Any) -> OAuth2Session:
    session = OAuth2Session(secrets.x_client_id, **options)
    session.mount(X_ADDRESS, Readdressed(secrets.x_base_url, timeout))
    for hook in ("access_token_response", "refresh_token_response"):
        session.register_compliance_hook(hook, _refuse_what_is_no_answer)
    return session


def _refuse_what_is_no_answer(response: requests.Response) -> requests.Response:
    if response.status_code >= 500 or response.status_code in {408, 429}:
        raise _NoAnswer(f"X answered {response.status_code}")
    return response


def _basic(secrets: Secrets) -> HTTPBasicAuth:
    secret = secrets.x_client_secret
    return HTTPBasicAuth(secrets.x_client_id or "", secret.get_secret_value() if secret else "")


def _redactor(secrets: Secrets, sent: SecretStr) -> Redactor:
    """Takes out what was sent, in case that the other side says it back."""
    header = str(_basic(secrets)(requests.Request()).headers["Authorization"])
    return Redactor([secrets.x_client_secret, SecretStr(header.partition(" ")[2]), sent])


def _why_refused(refusal: _Refusal) -> str:
    known = {
        "mismatching_state": f"that address is of another login (its state is not ours); {LOGIN} again",
        "access_denied": f"consent was denied on X's page; {LOGIN} again, and let the app in",
        "missing_code": f"that address holds no code; {LOGIN} again, and give the whole address",
        "insecure_transport": f"that is no address; {LOGIN} again, and give the one that the browser was sent to",
        **dict.fromkeys(WRONG_CLIENT, f"X does not take the app ({refusal}); correct X_CLIENT_ID and X_CLIENT_SECRET"),
    }
    if refusal.error in known:
        return known[refusal.error]
    if "authorization code" in refusal.description:
        return f"X does not take the code ({refusal}): it is good once, and for half a minute; {LOGIN} again"
    return f"X gave no tokens ({refusal}); {LOGIN} again"
