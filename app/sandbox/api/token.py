"""POST /2/oauth2/token and /2/oauth2/revoke: tokens for a code or for a refresh token, asked for by the app.

RFC 6749 sections 4.1.3 and 6, RFC 7009, and
https://docs.x.com/fundamentals/authentication/oauth-2-0/user-access-token
"""

from __future__ import annotations

import base64
import binascii
from urllib.parse import parse_qsl, unquote

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from app import clock
from app.sandbox import ledger
from app.sandbox.auth import same
from app.sandbox.posts import to_ms
from app.sandbox.settings import Settings
from app.sandbox.tokens import InvalidGrant, Tokens
from app.sandbox.wire import Answer
from app.sandbox.world import World

NAME = "POST /2/oauth2/token"
GRANTS = ("authorization_code", "refresh_token")


def router(world: World, tokens: Tokens) -> APIRouter:
    """The endpoints. They have no window and cost nothing; the first is booked, so that one can see how often."""
    api = APIRouter()

    @api.post("/2/oauth2/token")
    async def token(request: Request) -> Response:
        given = await _form(request)
        world.tick()
        with world.store.transaction():
            ledger.book(world.store, NAME, Answer({}, 0), world.now)
            if not _is_client(world.settings, request.headers.get("authorization", ""), given):
                return _no_client()
            return _granted(given, tokens, to_ms(world.now))

    @api.post("/2/oauth2/revoke")
    async def revoke(request: Request) -> Response:
        given = await _form(request)
        if not _is_client(world.settings, request.headers.get("authorization", ""), given):
            return _no_client()
        with world.store.transaction():
            tokens.revoke(given.get("token", ""))
        return JSONResponse({"revoked": True})

    return api


def _granted(given: dict[str, str], tokens: Tokens, now_ms: int) -> Response:
    grant = given.get("grant_type", "")
    if grant not in GRANTS:
        return _refused(400, "unsupported_grant_type", f"grant_type: this sandbox plays {' and '.join(GRANTS)}")
    if grant == "refresh_token":
        pair = tokens.refresh(given.get("refresh_token", ""), now_ms)
        return JSONResponse(pair) if pair else _invalid("Value passed for the token was invalid.")
    names = ("code", "code_verifier", "redirect_uri")
    missing = [name for name in names if not given.get(name)]
    if missing:
        return _invalid(f"Missing required parameter [{missing[0]}].")
    code, verifier, redirect_uri = (given[name] for name in names)
    try:
        first = tokens.exchange(code, verifier, redirect_uri, now_ms=now_ms, wall_ms=to_ms(clock.wall_now()))
    except InvalidGrant as refusal:
        return _invalid(str(refusal))
    return JSONResponse(first)


async def _form(request: Request) -> dict[str, str]:
    return dict(parse_qsl((await request.body()).decode("utf-8", "replace")))


def _is_client(settings: Settings, header: str, given: dict[str, str]) -> bool:
    """Whether our app asks: with its secret, or by its id alone where it is one that can keep none."""
    keys = settings.keys
    if settings.public_client and not header:
        return same(given.get("client_id", ""), keys.client_id)
    scheme, _, rest = header.partition(" ")
    try:
        user, _, password = base64.b64decode(rest).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        return False
    return scheme.lower() == "basic" and same(unquote(user), keys.client_id) & same(
        unquote(password), keys.client_secret
    )


def _no_client() -> Response:
    return _refused(401, "unauthorized_client", "Missing valid authorization header")


def _invalid(description: str) -> Response:
    return _refused(400, "invalid_request", description)


def _refused(status: int, error: str, description: str) -> Response:
    return JSONResponse({"error": error, "error_description": description}, status)
