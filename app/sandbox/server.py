"""The server: the endpoints of X, the control API and the page, as one ASGI application.

Every handler is a coroutine, and none waits inside a transaction: a world has one thread, that of the event loop.
"""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI
from fastapi import Request as HttpRequest
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.sandbox import consent, control, intent, levers, page
from app.sandbox.api import posts, search, timelines, token, users
from app.sandbox.api.endpoint import Endpoint
from app.sandbox.boundedconfidence import BoundedConfidenceCommunity
from app.sandbox.community import Community, TasteCommunity
from app.sandbox.communityfile import load
from app.sandbox.faults import Faults
from app.sandbox.route import Route, respond
from app.sandbox.settings import Settings
from app.sandbox.store import Store
from app.sandbox.tokens import Tokens
from app.sandbox.wire import stamp
from app.sandbox.world import World

# Fixed paths come before those with a parameter, which would match them too.
ENDPOINTS: tuple[Endpoint, ...] = (*search.ENDPOINTS, *posts.ENDPOINTS, *users.ENDPOINTS, *timelines.ENDPOINTS)


def create_app(settings: Settings, community: Community | None = None) -> FastAPI:
    """The sandbox as an ASGI application, on the state in `settings.state`.

    Raises:
        CommunityFileError: the community cannot be used.
        StateMismatchError: the state was made with other settings.
    """
    kind = TasteCommunity if settings.mechanism == "taste" else BoundedConfidenceCommunity
    chosen = community or kind(load(settings.community), settings.seed, settings.bot_handle)
    world = World(settings, chosen, Store(settings.state))
    app = FastAPI(title="Explorer's sandbox", openapi_url=None, docs_url=None, redoc_url=None)
    faults, tokens = Faults(settings.seed), Tokens(world.store, settings.seed)
    if settings.credits_usd is not None and world.store.bought() is None:
        world.store.buy(stamp(world.now), settings.credits_usd)
    app.state.world, app.state.faults = world, faults
    for endpoint in ENDPOINTS:
        app.add_api_route(
            endpoint.path, Route(endpoint, world, faults, tokens), methods=[endpoint.method], response_model=None
        )
    app.include_router(token.router(world, tokens))
    app.include_router(consent.router(world, tokens))
    app.include_router(control.router(world))
    app.include_router(levers.router(world, faults, tokens))
    app.include_router(page.router(world))
    app.include_router(intent.router(world))
    app.add_exception_handler(HTTPException, _no_such_page)
    app.add_middleware(_Transport)
    return app


async def _no_such_page(_: HttpRequest, error: Exception) -> Response:
    status, detail = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, "Error")
    title = HTTPStatus(status).phrase
    return respond(status, {"title": title, "detail": detail, "type": "about:blank", "status": status}, {})


class _Transport:
    """Hands uvicorn's transport down, which is what a reset needs and ASGI does not offer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["sandbox.transport"] = getattr(getattr(receive, "__self__", None), "transport", None)
        await self._app(scope, receive, send)
