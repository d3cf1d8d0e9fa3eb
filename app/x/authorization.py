"""How a request to X is authorized: signed with the four keys of OAuth 1.0a, or by a bearer token of OAuth 2.0.

Which of the two, the environment says: OAuth 2.0 if X_CLIENT_ID or X_CLIENT_SECRET is set, whatever else is; otherwise
OAuth 1.0a, which needs no renewing.
https://docs.x.com/fundamentals/authentication/oauth-1-0a/
https://docs.x.com/fundamentals/authentication/oauth-2-0/authorization-code
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import SecretStr
from requests import PreparedRequest
from requests.auth import AuthBase
from requests_oauthlib import OAuth1

from app.config import Secrets
from app.loading import ConfigError, WrongSetting


class Authorization(AuthBase):
    """What `requests` calls to authorize each request."""

    def ready(self) -> object:
        """Make sure that the next request can be authorized; before anything is reserved for it.

        Returns:
            What it will be authorized with, for `renew`.

        Raises:
            XError: it cannot; nothing was sent.
        """
        return None

    def renew(self, used: object) -> bool:  # noqa: ARG002 - for those whose tokens change
        """X has refused `used`. Whether there is something else to ask with now, so that asking again makes sense.

        Raises:
            XError: there is not, and the error says why better than X's refusal.
        """
        return False  # keys do not change while a process runs


class Signature(Authorization):
    """OAuth 1.0a in user context."""

    def __init__(self, secrets: Secrets) -> None:
        self._sign = OAuth1(
            _value(secrets.x_api_key),
            client_secret=_value(secrets.x_api_secret),
            resource_owner_key=_value(secrets.x_access_token),
            resource_owner_secret=_value(secrets.x_access_token_secret),
            decoding=None,
        )

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        signed: PreparedRequest = self._sign(request)
        return signed


class Bearer(Authorization):
    """One access token, as it is."""

    def __init__(self, token: SecretStr) -> None:
        self._token = token

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token.get_secret_value()}"
        return request


def check_credentials(user_id: str, secrets: Secrets) -> None:
    """Whether the environment has what X is asked with, and the four keys belong to the account.

    Raises:
        ConfigError: naming the variables; never showing a value.
    """
    if secrets.uses_oauth2:
        remedy = "OAuth 2.0 needs both: take them from the app's page on console.x.com, or remove both to use four keys"
        _refuse_missing({"X_CLIENT_ID": secrets.x_client_id, "X_CLIENT_SECRET": secrets.x_client_secret}, remedy)
        return
    remedy = (
        "take the keys from the app's page on console.x.com and put them into .env (.env.example says where each "
        "is found)"
    )
    _refuse_missing(oauth1_keys(secrets), remedy)
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


def _refuse_missing(needed: Mapping[str, SecretStr | str | None], remedy: str) -> None:
    names = ", ".join(name for name, value in needed.items() if not value)
    if names:
        raise ConfigError(f"environment: {names} missing; {remedy}", [WrongSetting(names, "missing", remedy)])


def oauth1_keys(secrets: Secrets) -> dict[str, SecretStr | None]:
    """The four keys of OAuth 1.0a by their variables."""
    return {
        "X_API_KEY": secrets.x_api_key,
        "X_API_SECRET": secrets.x_api_secret,
        "X_ACCESS_TOKEN": secrets.x_access_token,
        "X_ACCESS_TOKEN_SECRET": secrets.x_access_token_secret,
    }


def _value(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret is not None else ""
