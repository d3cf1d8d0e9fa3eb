"""The console as a web app: its pages, its login, and what they share."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Form, Request
from fastapi.responses import RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.sessions import SessionMiddleware

from app.console import admin
from app.console.pages import approvals, community, copilot, costs, feed, learning, now
from app.console.rendering import render
from app.console.security import (
    SESSION_SECONDS,
    Headers,
    NotSignedInError,
    OwnForm,
    Password,
    is_signed_in,
    sign_in,
)
from app.context import BotContext

STATIC = Path(__file__).with_name("static")


def create(bot: BotContext, password: str, *, https: bool = False) -> FastAPI:
    """The console of one bot.

    Args:
        https: whether browsers reach it by TLS only, so that its cookie may never travel otherwise.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        bot.db.close()

    app = FastAPI(title="Explorer", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.bot, app.state.password = bot, Password(password)
    key = secrets.token_urlsafe(32)  # of this process: a restart signs everybody out
    app.add_middleware(Headers)
    app.add_middleware(SessionMiddleware, secret_key=key, max_age=SESSION_SECONDS, same_site="strict", https_only=https)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    for page in (now, feed, approvals, copilot, learning, community, costs):
        app.include_router(page.router)
    app.add_api_route("/login", _login_page, methods=["GET"])
    app.add_api_route("/login", _login, methods=["POST"])
    app.add_api_route("/logout", _logout, methods=["POST"], dependencies=[OwnForm])
    app.add_api_route("/health", _health, methods=["GET"])
    app.add_exception_handler(NotSignedInError, _to_login)
    app.add_exception_handler(HTTPException, _problem)
    admin.mount(app, bot, key)
    return app


def _login_page(request: Request) -> Response:
    if is_signed_in(request.session):
        return RedirectResponse("/", 303)
    return render(request, "login.html")


def _login(request: Request, password: Annotated[str, Form()]) -> Response:
    if not request.app.state.password.check(password):
        return render(request, "login.html", status=401, wrong=True)
    sign_in(request)
    return RedirectResponse("/", 303)


def _logout(request: Request) -> Response:
    request.session.clear()
    return RedirectResponse("/login", 303)


def _health() -> dict[str, str]:
    return {"status": "ok"}


def _to_login(_: Request, __: Exception) -> Response:
    return RedirectResponse("/login", 303)


def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - Starlette calls this for no other
    return render(request, "problem.html", status=error.status_code, problem=error.detail)
