"""Approvals: drafts that wait for a person, to be let out, changed or refused; also by keys."""

from __future__ import annotations

import uuid
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from app import approval, events
from app.console.rendering import bot_of, render
from app.console.security import OwnForm, SignedIn

router = APIRouter(prefix="/approvals")


@router.get("", dependencies=[SignedIn])
def page(request: Request) -> Response:
    return _page(request)


@router.post("/{draft_id}/approve", dependencies=[OwnForm])
def approve(request: Request, draft_id: uuid.UUID, text: Annotated[str, Form()]) -> Response:
    """Let a draft out with this text, its own or a person's."""
    bot = bot_of(request)
    # A browser sends line breaks as CR LF; the draft has LF.
    said = text.replace("\r\n", "\n")
    try:
        with bot.db.transaction() as session:
            approval.approve(session, bot.config.bot_id, draft_id, said)
            events.record(session, bot.config.bot_id, "console.approve", str(draft_id))
    except approval.ApprovalError as error:
        return _with_problem(request, error)
    return RedirectResponse("/approvals", 303)


@router.post("/{draft_id}/reject", dependencies=[OwnForm])
def reject(request: Request, draft_id: uuid.UUID, reason: Annotated[str, Form()] = "") -> Response:
    bot = bot_of(request)
    try:
        with bot.db.transaction() as session:
            approval.reject(session, bot.config.bot_id, draft_id, reason.strip() or None)
            events.record(session, bot.config.bot_id, "console.reject", str(draft_id))
    except approval.ApprovalError as error:
        return _with_problem(request, error)
    return RedirectResponse("/approvals", 303)


def _page(request: Request, *, status: int = 200, problem: str | None = None) -> Response:
    bot = bot_of(request)
    with bot.db.transaction() as session:
        items = approval.waiting(session, bot.config.bot_id)
    needed = bot.config.safety.approval
    return render(request, "approvals.html", status=status, items=items, needed=needed, problem=problem)


def _with_problem(request: Request, error: Exception) -> Response:
    """The page again, with what was wrong, instead of an error that loses the way back."""
    return _page(request, status=409, problem=str(error))
