"""How a request is served: every one goes the same way, from the signature to the ledger.

signature → window → faults before → the endpoint and its record, in one transaction → ledger → faults after
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Any

from fastapi import Request as HttpRequest
from starlette.responses import Response

from app.sandbox import auth, ledger, limits, vocabulary
from app.sandbox.api.endpoint import Endpoint, Request
from app.sandbox.faults import CUTS, NO_EFFECT, WAITS_FIRST, WAITS_LAST, Fault, Faults, spoilt, without_metrics
from app.sandbox.posts import to_ms
from app.sandbox.problems import Json, Problem
from app.sandbox.store import Write
from app.sandbox.tokens import Tokens
from app.sandbox.wire import Answer, stamp
from app.sandbox.world import World

ERROR_AFTER = {"500_after": 500, "503_after": 503}
ERROR_BEFORE = {"500": 500, "503": 503}


class Route:
    """Serves one endpoint."""

    def __init__(self, endpoint: Endpoint, world: World, faults: Faults, tokens: Tokens) -> None:
        self._endpoint, self._world, self._faults, self._tokens = endpoint, world, faults, tokens

    async def __call__(self, request: HttpRequest) -> Response:
        endpoint, world = self._endpoint, self._world
        raw = await request.body()
        world.tick()
        struck = self._faults.strike(endpoint.method, request.url.path)
        query, newer = vocabulary.read(request.query_params.multi_items(), world.settings.vocabulary)
        names: set[str] = {fault.fault for fault in struck}
        await _wait(struck, WAITS_FIRST)
        world.tick()
        with world.store.transaction():
            answer, headers, effective = self._answer(request, query, raw, struck)
            if endpoint.write:
                self._note(request, raw, answer, struck)
            if effective:
                ledger.book(world.store, endpoint.name, answer, world.now)
        await _wait(struck, WAITS_LAST)
        if names & CUTS:
            return await _cut(request)
        for name in names & ERROR_AFTER.keys():
            answer = _broken(ERROR_AFTER[name])
        body = without_metrics(answer.body) if "missing_metrics" in names else answer.body
        body = vocabulary.write(body) if newer else body
        return respond(answer.status, body, headers, names)

    def _answer(
        self, request: HttpRequest, query: dict[str, str], raw: bytes, struck: list[Fault]
    ) -> tuple[Answer, dict[str, str], bool]:
        """The answer, its headers, and whether the endpoint did its work."""
        names: set[str] = {fault.fault for fault in struck}
        headers: dict[str, str] = {}
        store, settings = self._world.store, self._world.settings
        try:
            context = self._verify(request)
            if names & NO_EFFECT:
                return Answer({}, 0), headers, False
            for name in names & ERROR_BEFORE.keys():
                return _broken(ERROR_BEFORE[name]), headers, False
            if "429_no_reset" in names:
                return Answer(limits.refusal(), 429), headers, False
            verdict = limits.take(store, self._endpoint.name, settings.tier, context, to_ms(self._world.now))
            headers = verdict.headers
            if not verdict.allowed:
                return Answer(limits.refusal(), 429), headers, False
            if "402" in names or ledger.depleted(store):
                return Answer(ledger.refusal(settings), 402), headers, False
            over = limits.over_the_month(settings, store, self._endpoint.name, self._world.now)
            if over or "429_usage_capped" in names:
                return Answer(limits.usage_capped(settings), 429), headers, False
            answer = self._endpoint.handler(self._request(request, query, raw, struck, context))
        except Problem as problem:
            return Answer(problem.body, problem.status), headers, False
        return answer, headers, True

    def _verify(self, request: HttpRequest) -> auth.Context:
        """Who asks.

        Raises:
            Problem: 401 or 403, as X has it.
        """
        base = f"{request.url.scheme}://{request.headers.get('host', '')}"
        header = request.headers.get("authorization", "")
        keys, url = self._world.settings.keys, request.url
        token = auth.bearer(header)
        if token is not None and auth.same(token, keys.bearer_token):
            if not self._endpoint.app_only:
                raise auth.app_only_forbidden()
            return "app"
        if token is not None:
            if not self._tokens.is_good(token, to_ms(self._world.now)):
                raise auth.unauthorized()
            return "user"
        path = request.scope["raw_path"].decode("ascii", "replace")  # as it was signed, before it was unquoted
        auth.verify(keys, method=self._endpoint.method, base_url=base, path=path, query=url.query, header=header)
        return "user"

    def _request(
        self, request: HttpRequest, query: dict[str, str], raw: bytes, struck: list[Fault], context: auth.Context
    ) -> Request:
        lag = max((fault.seconds for fault in struck if fault.fault == "lagging_timeline"), default=0.0)
        return Request(
            self._world,
            self._world.settings,
            query,
            {name: str(value) for name, value in request.path_params.items()},
            _json(raw),
            hide_newer_ms=round(lag * 1000),
            context=context,
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


def respond(status: int, body: Json, headers: dict[str, str], faults: set[str] | None = None) -> Response:
    """An answer as X sends it, spoilt by faults if they are of that sort."""
    text = spoilt(json.dumps(body, ensure_ascii=False), faults or set())
    kind = "application/problem+json" if status >= 400 else "application/json; charset=utf-8"
    return Response(text, status, headers, media_type=kind)


async def _wait(struck: list[Fault], names: frozenset[str]) -> None:
    for fault in struck:
        if fault.fault in names:
            await asyncio.sleep(fault.seconds)


def _json(raw: bytes) -> Any:
    """A body, None where it is no JSON that a text can be read from."""
    try:
        body = json.loads(raw) if raw else None
        json.dumps(body, ensure_ascii=False).encode()  # half a surrogate pair is JSON, and no text
    except (ValueError, RecursionError):
        return None
    return body


def _broken(status: int) -> Answer:
    title = "Internal Server Error" if status == 500 else "Service Unavailable"
    return Answer({"title": title, "detail": title, "type": "about:blank", "status": status}, status)


class ConnectionCutError(ConnectionResetError):
    """A fault cut the connection, and there is no socket to cut: the application was called in process."""


async def _cut(request: HttpRequest) -> Response:
    """Reset the connection, so that the client learns nothing."""
    transport = request.scope.get("sandbox.transport")
    if transport is None:
        raise ConnectionCutError("reset by a fault")
    if not transport.is_closing():  # the client may have given up before
        raw: socket.socket = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    await asyncio.sleep(0.01)  # the server must see the loss before it would send an answer
    return Response(status_code=500)
