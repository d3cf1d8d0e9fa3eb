"""Raw rows by sqladmin, behind the console's login, to read only: what changes a row has its reasons in code."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response
from sqladmin import Admin, ModelView
from sqladmin.authentication import AuthenticationBackend

from app.console.security import is_signed_in
from app.context import BotContext
from dbs.models.access import SECRET
from dbs.models.base import Base


class _Login(AuthenticationBackend):
    """The console's own session; there is no second login."""

    async def authenticate(self, request: Request) -> Response | bool:
        return is_signed_in(request.session) or RedirectResponse("/login", 303)

    async def login(self, request: Request) -> bool:  # noqa: ARG002 - sqladmin's signature
        return False

    async def logout(self, request: Request) -> bool:
        request.session.clear()
        return True


def mount(app: FastAPI, bot: BotContext, key: str) -> None:
    """Put a page for every table under /admin, but for what opens X."""
    admin = Admin(app, bot.db.engine, title="Explorer: tables", authentication_backend=_Login(key))
    for mapper in sorted(Base.registry.mappers, key=lambda mapper: str(mapper.class_.__tablename__)):
        if SECRET not in mapper.class_.__table__.info:
            admin.add_view(_view(mapper.class_))


def _view(model: Any) -> type[ModelView]:
    columns = [column.key for column in model.__mapper__.columns]
    return type(
        f"{model.__name__}View",
        (ModelView,),
        {
            "name": model.__tablename__,
            "name_plural": model.__tablename__,
            "column_list": columns,
            "can_create": False,
            "can_edit": False,
            "can_delete": False,
            "can_export": True,
            "page_size": 50,
        },
        model=model,
    )
