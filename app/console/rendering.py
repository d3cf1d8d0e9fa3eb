"""Pages out of templates. What comes from the bot or from X is escaped by Jinja; nothing is marked safe."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from fastapi.templating import Jinja2Templates

from app import approval, copilot
from app.context import BotContext

PAGES = (
    ("/", "Now"),
    ("/feed", "Feed"),
    ("/approvals", "Approvals"),
    ("/copilot", "Co-pilot"),
    ("/learning", "Learning"),
    ("/community", "Community"),
    ("/costs", "Costs"),
    ("/admin", "Tables"),
)


def bot_of(request: Request) -> BotContext:
    bot: BotContext = request.app.state.bot
    return bot


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
    """A page, with what every page shows: the bot, its name, the token of the session's forms."""
    bot = bot_of(request)
    return TEMPLATES.TemplateResponse(
        request,
        template,
        {
            "bot": bot.config,
            "pages": PAGES,
            "path": request.url.path,
            "token": request.session.get("token", ""),
            **values,
        },
        status_code=status,
    )


def waiting_count(bot: BotContext) -> int:
    """Drafts that wait for a person."""
    with bot.db.transaction() as session:
        return len(approval.waiting(session, bot.config.bot_id))


def offered_count(bot: BotContext) -> int:
    """Posts with two drafts for a person to choose from."""
    with bot.db.transaction() as session:
        return len(copilot.offers(session, bot.config))


def moment(value: datetime | None) -> str:
    """A time as a table shows it."""
    return f"{value:%Y-%m-%d %H:%M}" if value else "—"


def span(seconds: float) -> str:
    """A span as a person says it.

    >>> span(42), span(600), span(9000), span(200_000)
    ('42 s', '10 min', '2.5 h', '2.3 d')
    """
    for size, unit, digits in ((86400, "d", 1), (3600, "h", 1), (60, "min", 0)):
        if seconds >= size:
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds:.0f} s"


TEMPLATES = Jinja2Templates(Path(__file__).with_name("templates"))
TEMPLATES.env.filters |= {"moment": moment, "span": span}
TEMPLATES.env.trim_blocks = TEMPLATES.env.lstrip_blocks = True
