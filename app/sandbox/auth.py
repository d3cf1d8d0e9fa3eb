"""OAuth 1.0a user context: the signature of every request is verified (RFC 5849, HMAC-SHA1)."""

from __future__ import annotations

from hmac import compare_digest
from urllib.parse import parse_qsl, unquote

from oauthlib.common import Request as SignedRequest
from oauthlib.oauth1.rfc5849 import signature

from app.sandbox.problems import plain_problem
from app.sandbox.settings import Keys

# A client signs the address it means to call, and is then sent here by an adapter or a proxy.
SIGNED_HOSTS = ("https://api.twitter.com", "https://api.x.com")


def verify(keys: Keys, *, method: str, base_url: str, path: str, query: str, header: str) -> None:
    """Let a request pass if it is signed with these keys.

    The time stamp is not judged: the world's clock may run faster than the client's.

    Raises:
        Problem: 401, as X has it.
    """
    scheme, _, rest = header.partition(" ")
    given = {k.strip(): unquote(v.strip().strip('"')) for k, _, v in (part.partition("=") for part in rest.split(","))}
    right_keys = compare_digest(given.get("oauth_consumer_key", ""), keys.api_key) and compare_digest(
        given.get("oauth_token", ""), keys.access_token
    )
    if scheme.lower() != "oauth" or given.get("oauth_signature_method") != "HMAC-SHA1" or not right_keys:
        raise plain_problem(401, "Unauthorized", "Unauthorized")
    params = [(k, v) for k, v in given.items() if k not in {"oauth_signature", "realm"}]
    params += parse_qsl(query, keep_blank_values=True)
    for base in (*SIGNED_HOSTS, base_url.rstrip("/")):
        request = SignedRequest(base + path, http_method=method)
        request.params, request.signature = params, given.get("oauth_signature", "")
        if signature.verify_hmac_sha1(request, keys.api_secret, keys.access_token_secret):
            return
    raise plain_problem(401, "Unauthorized", "Unauthorized")
