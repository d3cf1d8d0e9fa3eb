"""The server: every request goes the same way, from the signature to the ledger.

signature → window → faults before → the endpoint and its record, in one transaction → ledger → faults after
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi import Request as HttpRequest
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.sandbox import auth, control, ledger, limits, page
from app.sandbox.api import posts, search, timelines, users
from app.sandbox.api.endpoint import Endpoint, Request
from app.sandbox.boundedconfidence import BoundedConfidenceCommunity
from app.sandbox.community import Community, TasteCommunity
from app.sandbox.communityfile import load
from app.sandbox.faults import Fault, Faults, without_metrics
from app.sandbox.posts import to_ms
from app.sandbox.problems import Json, Problem
from app.sandbox.settings import Settings
from app.sandbox.store import Store, Write
from app.sandbox.wire import Answer, stamp
from app.sandbox.world import World

log = structlog.get_logger()

# Fixed paths come before those with a parameter, which would match them too.
ENDPOINTS: tuple[Endpoint, ...] = (*search.ENDPOINTS, *posts.ENDPOINTS, *users.ENDPOINTS, *timelines.ENDPOINTS)
ERROR_AFTER = {"500_after": 500, "503_after": 503}
ERROR_BEFORE = {"500": 500, "503": 503}


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
    faults = Faults(settings.seed)
    app.state.world, app.state.faults = world, faults
    for endpoint in ENDPOINTS:
        app.add_api_route(
            endpoint.path, _Route(endpoint, world, faults), methods=[endpoint.method], response_model=None
        )
    app.include_router(control.router(world, faults))
    app.include_router(page.router(world))
    app.add_exception_handler(HTTPException, _no_such_page)
    app.add_middleware(_Transport)
    return app


class _Route:
    """Serves one endpoint."""

    def __init__(self, endpoint: Endpoint, world: World, faults: Faults) -> None:
        self._endpoint, self._world, self._faults = endpoint, world, faults

    async def __call__(self, request: HttpRequest) -> Response:
        endpoint, world = self._endpoint, self._world
        raw = await request.body()
        world.tick()
        struck = self._faults.strike(endpoint.method, request.url.path)
        for fault in struck:
            if fault.fault == "latency":
                await asyncio.sleep(fault.seconds)
        names = {fault.fault for fault in struck}
        world.tick()
        with world.store.transaction():
            answer, headers, effective = self._answer(request, raw, struck)
            if endpoint.write:
                self._note(request, raw, answer, struck)
            if effective:
                ledger.book(world.store, endpoint.name, answer, world.now)
        if names & {"reset_before", "reset_after"}:
            return await _cut(request)
        for name in names & ERROR_AFTER.keys():
            answer = _broken(ERROR_AFTER[name])
        body = without_metrics(answer.body) if "missing_metrics" in names else answer.body
        return _respond(answer.status, body, headers, truncated="malformed_json" in names)

    def _answer(self, request: HttpRequest, raw: bytes, struck: list[Fault]) -> tuple[Answer, dict[str, str], bool]:
        """The answer, its headers, and whether the endpoint did its work."""
        names = {fault.fault for fault in struck}
        headers: dict[str, str] = {}
        try:
            self._verify(request)
            if "reset_before" in names:
                return Answer({}, 0), headers, False
            for name in names & ERROR_BEFORE.keys():
                return _broken(ERROR_BEFORE[name]), headers, False
            if "429_no_reset" in names:
                return Answer(limits.refusal(), 429), headers, False
            verdict = limits.take(self._world.store, self._endpoint, to_ms(self._world.now))
            headers = verdict.headers
            if not verdict.allowed:
                return Answer(limits.refusal(), 429), headers, False
            answer = self._endpoint.handler(self._request(request, raw, struck))
        except Problem as problem:
            return Answer(problem.body, problem.status), headers, False
        return answer, headers, True

    def _verify(self, request: HttpRequest) -> None:
        base = f"{request.url.scheme}://{request.headers.get('host', '')}"
        header = request.headers.get("authorization", "")
        keys, url = self._world.settings.keys, request.url
        auth.verify(keys, method=self._endpoint.method, base_url=base, path=url.path, query=url.query, header=header)

    def _request(self, request: HttpRequest, raw: bytes, struck: list[Fault]) -> Request:
        query: dict[str, str] = {}
        for name, value in request.query_params.multi_items():
            query[name] = f"{query[name]},{value}" if name in query else value
        lag = max((fault.seconds for fault in struck if fault.fault == "lagging_timeline"), default=0.0)
        return Request(
            self._world,
            self._world.settings,
            query,
            {name: str(value) for name, value in request.path_params.items()},
            _json(raw),
            hide_newer_ms=round(lag * 1000),
        )

    def _note(self, request: HttpRequest, raw: bytes, answer: Answer, struck: list[Fault]) -> None:
        body = _json(raw)
        body = body if isinstance(body, dict) else {}
        reply, quoted = body.get("reply"), body.get("quote_tweet_id")
        target = reply.get("in_reply_to_tweet_id") if isinstance(reply, dict) else quoted or body.get("target_user_id")
        target = target or request.path_params.get("target_user_id")
        kind = self._endpoint.write or ""
        if kind == "post":
            kind = "reply" if reply else "quote" if quoted else "post"
        elif kind == "delete":
            target = request.path_params["id"]
        text = body.get("text")
        self._world.store.note(
            Write(
                time=stamp(self._world.now),
                method=self._endpoint.method,
                path=request.url.path,
                kind=kind,
                text=text if isinstance(text, str) else None,
                target=str(target) if target else None,
                status=answer.status,
                id=answer.made,
                fault=",".join(sorted(fault.fault for fault in struck)) or None,
            )
        )


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw) if raw else None
    except ValueError:
        return None


def _broken(status: int) -> Answer:
    title = "Internal Server Error" if status == 500 else "Service Unavailable"
    return Answer({"title": title, "detail": title, "type": "about:blank", "status": status}, status)


def _respond(status: int, body: Json, headers: dict[str, str], *, truncated: bool = False) -> Response:
    text = json.dumps(body, ensure_ascii=False)
    if truncated:
        text = text[: len(text) * 2 // 3]
    kind = "application/problem+json" if status >= 400 else "application/json; charset=utf-8"
    return Response(text, status, headers, media_type=kind)


async def _no_such_page(_: HttpRequest, error: Exception) -> Response:
    status, detail = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, "Error")
    title = HTTPStatus(status).phrase
    return _respond(status, {"title": title, "detail": detail, "type": "about:blank", "status": status}, {})


class ConnectionCutError(ConnectionResetError):
    """A fault cut the connection, and there is no socket to cut: the application was called in process."""


async def _cut(request: HttpRequest) -> Response:
    """Reset the connection, so that the client learns nothing."""
    transport = request.scope.get("sandbox.transport")
    if transport is None:
        raise ConnectionCutError("reset by a fault")
    raw: socket.socket = transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    await asyncio.sleep(0.01)  # the server must see the loss before it would send an answer
    return Response(status_code=500)


class _Transport:
    """Hands uvicorn's transport down, which is what a reset needs and ASGI does not offer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["sandbox.transport"] = getattr(getattr(receive, "__self__", None), "transport", None)
        await self._app(scope, receive, send)
