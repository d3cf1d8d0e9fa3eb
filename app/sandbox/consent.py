"""/i/oauth2/authorize: the page on which the bot's user lets the app in, or does not.

Whoever opens it is the bot's user, always logged in. A request that cannot be meant (another client, no PKCE, an
unknown scope) gets an error page, as at X, and nobody is sent anywhere.
https://docs.x.com/fundamentals/authentication/oauth-2-0/user-access-token
"""

from __future__ import annotations

from html import escape
from urllib.parse import parse_qsl, urlencode, urlsplit

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from app import clock
from app.sandbox.auth import same
from app.sandbox.page import STYLE
from app.sandbox.posts import to_ms
from app.sandbox.tokens import SCOPES, Tokens
from app.sandbox.world import World

PATH = "/i/oauth2/authorize"
NAMES = ("response_type", "client_id", "redirect_uri", "scope", "state", "code_challenge", "code_challenge_method")


def router(world: World, tokens: Tokens) -> APIRouter:
    """The page, and what its two buttons do."""
    pages = APIRouter()

    @pages.get(PATH)
    async def ask(request: Request) -> Response:
        asked = dict(request.query_params)
        wrong = _wrong(world, asked)
        return _page(world, asked) if wrong is None else _error(wrong)

    @pages.post(PATH)
    async def decide(request: Request) -> Response:
        asked = dict(parse_qsl((await request.body()).decode("utf-8", "replace")))
        wrong = _wrong(world, asked)
        if wrong is not None:
            return _error(wrong)
        told = {"state": asked["state"]}
        if asked.get("decision") == "allow":
            with world.store.transaction():
                told["code"] = tokens.code(
                    asked["code_challenge"], asked["redirect_uri"], asked["scope"], to_ms(clock.wall_now())
                )
        else:
            told["error"] = "access_denied"
        joint = "&" if urlsplit(asked["redirect_uri"]).query else "?"
        return RedirectResponse(f"{asked['redirect_uri']}{joint}{urlencode(told)}", 303)

    return pages


def _wrong(world: World, asked: dict[str, str]) -> str | None:
    """What is wrong with a request, None if nothing is."""
    for name in NAMES:
        if not asked.get(name):
            return f"{name} is missing"
    if asked["response_type"] != "code":
        return "response_type must be code"
    if not same(asked["client_id"], world.settings.keys.client_id):
        return "there is no app with this client_id"
    if asked["code_challenge_method"] != "S256":
        return "code_challenge_method must be S256"
    unknown = set(asked["scope"].split()) - set(SCOPES.split())
    if unknown:
        return f"scope: {', '.join(sorted(unknown))} is none that this sandbox plays"
    address = urlsplit(asked["redirect_uri"])
    if address.scheme not in {"http", "https"} or not address.netloc or address.fragment:
        return "redirect_uri must be an absolute address without a fragment"
    return None


def _page(world: World, asked: dict[str, str]) -> Response:
    hidden = "".join(f"<input type=hidden name={name} value='{escape(asked[name], quote=True)}'>" for name in NAMES)
    scopes = "".join(f"<li>{escape(scope)}</li>" for scope in asked["scope"].split())
    return _html(
        200,
        f"<h1>Let the app into @{escape(world.me.handle)}?</h1><p>It asks for:</p><ul>{scopes}</ul>"
        f"<form method=post action={PATH}>{hidden}"
        "<button name=decision value=allow>Authorize app</button> "
        "<button name=decision value=deny>Cancel</button></form>",
    )


def _error(wrong: str) -> Response:
    return _html(400, f"<h1>Something went wrong</h1><p>The app could not be given access: {escape(wrong)}.</p>")


def _html(status: int, body: str) -> Response:
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>Authorize</title><style>{STYLE}</style>"
    return HTMLResponse(f"{head}{body}</html>", status)
