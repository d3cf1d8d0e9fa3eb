"""Now: what the bot is doing, what stands in its way, and a button that holds it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from app import events, loops
from app.console.rendering import bot_of, offered_count, render, waiting_count
from app.console.security import OwnForm, SignedIn
from app.monitor.alarms import alarms
from app.monitor.observation import observe
from app.schedule import LoopName

router = APIRouter()


@router.get("/", dependencies=[SignedIn])
def page(request: Request) -> Response:
    bot = bot_of(request)
    seen = observe(bot.db, bot.config)
    return render(
        request,
        "now.html",
        seen=seen,
        alarms=alarms(seen, bot.config),
        held=sum(loop.paused for loop in seen.loops),
        waiting=waiting_count(bot),
        offered=offered_count(bot),
    )


@router.post("/pause", dependencies=[OwnForm])
def pause(request: Request, reason: Annotated[str, Form()] = "") -> Response:
    """Hold every loop: no further turn is taken, and what is queued stays. A turn that is under way ends first."""
    bot = bot_of(request)
    with bot.db.transaction() as session:
        loops.pause(session, bot.config.bot_id, reason.strip() or "from the console")
        events.record(session, bot.config.bot_id, "console.pause", reason=reason.strip())
    return RedirectResponse("/", 303)


@router.post("/resume", dependencies=[OwnForm])
def resume(request: Request, loop: Annotated[LoopName | None, Form()] = None) -> Response:
    bot = bot_of(request)
    with bot.db.transaction() as session:
        loops.resume(session, bot.config.bot_id, [loop] if loop else None)
        events.record(session, bot.config.bot_id, "console.resume", loop.value if loop else None)
    return RedirectResponse("/", 303)
