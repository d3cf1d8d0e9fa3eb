"""Co-pilot: two drafts for each worthy post; a person takes one to X's own reply page, or neither; also by keys."""

from __future__ import annotations

import uuid
from typing import Annotated

from fastapi import APIRouter, Form, Path, Request
from fastapi.responses import RedirectResponse, Response

from app import copilot, events
from app.console.rendering import bot_of, render
from app.console.security import OwnForm, SignedIn, policy
from app.x import intent

router = APIRouter(prefix="/copilot")


@router.get("", dependencies=[SignedIn])
def page(request: Request) -> Response:
    return _page(request)


@router.post("/{draft_id}/choose", dependencies=[OwnForm])
def choose(request: Request, draft_id: uuid.UUID, text: Annotated[str, Form()]) -> Response:
    """Keep the choice, and lead on to X's page with this text, the draft's own or a person's."""
    bot = bot_of(request)
    said = text.replace("\r\n", "\n")  # a browser's line breaks; the draft has LF
    try:
        with bot.db.transaction() as session:
            post = copilot.choose(session, bot.config, draft_id, said, by="console")
            events.record(session, bot.config.bot_id, "console.choose", str(draft_id))
            address = _reply_page(request, str(post.target_post_id), post.content)
    except copilot.CopilotError as error:
        return _with_problem(request, error)
    return RedirectResponse(address, 303)


@router.post("/{x_post_id}/dismiss", dependencies=[OwnForm])
def dismiss(
    request: Request, x_post_id: Annotated[str, Path(pattern="^[0-9]{1,19}$")], reason: Annotated[str, Form()] = ""
) -> Response:
    bot = bot_of(request)
    try:
        with bot.db.transaction() as session:
            copilot.dismiss(session, bot.config.bot_id, x_post_id, reason.strip() or None)
            events.record(session, bot.config.bot_id, "console.dismiss", x_post_id)
    except copilot.CopilotError as error:
        return _with_problem(request, error)
    return RedirectResponse("/copilot", 303)


def _page(request: Request, *, status: int = 200, problem: str | None = None) -> Response:
    bot = bot_of(request)
    with bot.db.transaction() as session:
        offers = copilot.offers(session, bot.config)
        awaited = copilot.awaited(session, bot.config.bot_id)
    answer = render(
        request,
        "copilot.html",
        status=status,
        offers=offers,
        awaited=[(item, _reply_page(request, item.x_post_id, item.content)) for item in awaited],
        problem=problem,
    )
    # A choice is a form of ours that ends at X; browsers ask for leave for both.
    answer.headers["Content-Security-Policy"] = policy(intent.origin(bot.secrets.x_base_url))
    return answer


def _reply_page(request: Request, x_post_id: str, text: str) -> str:
    return intent.reply_page(bot_of(request).secrets.x_base_url, x_post_id, text)


def _with_problem(request: Request, error: Exception) -> Response:
    """The page again, with what was wrong, instead of an error that loses the way back."""
    return _page(request, status=409, problem=str(error))
