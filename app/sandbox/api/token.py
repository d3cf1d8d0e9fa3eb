"""POST /2/oauth2/token: an access token for a refresh token (RFC 6749, section 6), asked for by the app."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import parse_qs, unquote

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from app.sandbox.auth import same
from app.sandbox.posts import to_ms
from app.sandbox.settings import Keys
from app.sandbox.tokens import Tokens
from app.sandbox.world import World


def router(world: World, tokens: Tokens) -> APIRouter:
    """The endpoint. It has no window and costs nothing."""
    api = APIRouter()

    @api.post("/2/oauth2/token")
    async def token(request: Request) -> Response:
        raw = await request.body()
        if not _is_client(world.settings.keys, request.headers.get("authorization", "")):
            return _refused(401, "unauthorized_client", "Missing valid authorization header")
        given = parse_qs(raw.decode("utf-8", "replace"))
        if given.get("grant_type") != ["refresh_token"]:
            return _refused(400, "unsupported_grant_type", "grant_type: this sandbox plays refresh_token only")
        world.tick()
        with world.store.transaction():
            pair = tokens.refresh(given.get("refresh_token", [""])[0], to_ms(world.now))
        if pair is None:
            return _refused(400, "invalid_request", "Value passed for the token was invalid.")
        return JSONResponse(pair)

    return api


def _is_client(keys: Keys, header: str) -> bool:
    scheme, _, rest = header.partition(" ")
    try:
        user, _, password = base64.b64decode(rest).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        return False
    return scheme.lower() == "basic" and same(unquote(user), keys.client_id) & same(
        unquote(password), keys.client_secret
    )


def _refused(status: int, error: str, description: str) -> Response:
    return JSONResponse({"error": error, "error_description": description}, status)
