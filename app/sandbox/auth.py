"""Who asks: OAuth 1.0a signatures are verified (RFC 5849, HMAC-SHA1), and so are bearer tokens (RFC 6750)."""

from __future__ import annotations

from hmac import compare_digest
from typing import Literal
from urllib.parse import parse_qsl, unquote

from oauthlib.common import Request as SignedRequest
from oauthlib.oauth1.rfc5849 import signature

from app.sandbox.problems import PROBLEMS, Problem, plain_problem
from app.sandbox.settings import Keys

# A client signs the address it means to call, and is then sent here by an adapter or a proxy.
SIGNED_HOSTS = ("https://api.twitter.com", "https://api.x.com")
# With a user's tokens (OAuth 1.0a, or an access token of OAuth 2.0), or with the app's own bearer token.
Context = Literal["user", "app"]


def same(left: str, right: str) -> bool:
    """Whether two secrets are the same, told in a time that says nothing about them."""
    return compare_digest(left.encode("utf-8", "surrogatepass"), right.encode("utf-8", "surrogatepass"))


def verify(keys: Keys, *, method: str, base_url: str, path: str, query: str, header: str) -> None:
    """Let a request pass if it is signed with these keys.

    The time stamp is not judged: the world's clock may run faster than the client's.

    Raises:
        Problem: 401, as X has it.
    """
    scheme, _, rest = header.partition(" ")
    given = {k.strip(): unquote(v.strip().strip('"')) for k, _, v in (part.partition("=") for part in rest.split(","))}
    right_keys = same(given.get("oauth_consumer_key", ""), keys.api_key) and same(
        given.get("oauth_token", ""), keys.access_token
    )
    if scheme.lower() != "oauth" or given.get("oauth_signature_method") != "HMAC-SHA1" or not right_keys:
        raise unauthorized()
    params = [(k, v) for k, v in given.items() if k not in {"oauth_signature", "realm"}]
    params += parse_qsl(query, keep_blank_values=True)
    for base in (*SIGNED_HOSTS, base_url.rstrip("/")):
        request = SignedRequest(base + path, http_method=method)
        request.params, request.signature = params, given.get("oauth_signature", "")
        if signature.verify_hmac_sha1(request, keys.api_secret, keys.access_token_secret):
            return
    raise unauthorized()


def bearer(header: str) -> str | None:
    """The token of a bearer authorization; None if the request is authorized in another way."""
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def unauthorized() -> Problem:
    return plain_problem(401, "Unauthorized", "Unauthorized")


def app_only_forbidden() -> Problem:
    """403 where only a user's tokens will do."""
    detail = (
        "Authenticating with OAuth 2.0 Application-Only is forbidden for this endpoint. Supported authentication types "
        "are [OAuth 1.0a User Context, OAuth 2.0 User Context]."
    )
    return plain_problem(403, "Unsupported Authentication", detail, f"{PROBLEMS}unsupported-authentication")
