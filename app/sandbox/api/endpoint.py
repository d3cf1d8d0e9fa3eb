"""What an endpoint is: its path, whether it writes, and the function that answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.sandbox.auth import Context
from app.sandbox.params import ID, Params
from app.sandbox.problems import Problem, invalid, plain_problem
from app.sandbox.settings import Settings
from app.sandbox.view import View
from app.sandbox.wire import Answer, Renderer, Selection
from app.sandbox.world import World


@dataclass(frozen=True)
class Request:
    """One request, past authentication and limits.

    Attributes:
        query: its query parameters; a repeated one is joined by commas.
        path: the parameters in its path.
        body: its JSON body, if it has one.
        context: whether a user's tokens came with it, or the app's own.
        hide_newer_ms: own posts younger than this do not show on timelines (a fault).
    """

    world: World
    settings: Settings
    query: dict[str, str]
    path: dict[str, str]
    body: Any = None
    hide_newer_ms: int = 0
    context: Context = "user"

    @property
    def view(self) -> View:
        return View(self.world, self.context)

    def renderer(self, selection: Selection) -> Renderer:
        return Renderer(self.world, self.view, selection)

    def params(self, *known: str) -> Params:
        return Params(self.query, known)

    def path_id(self, name: str = "id") -> int:
        """An id in the path.

        Raises:
            Problem: 400, as X has it.
        """
        value = self.path[name]
        if not ID.match(value):
            message = f"The `{name}` query parameter value [{value}] is not valid"
            raise invalid([{"parameters": {name: [value]}, "message": message}])
        return int(value)

    def own_id(self, name: str = "id") -> int:
        """An id in the path that must be the authenticated account's.

        Raises:
            Problem: 400, as X has it.
        """
        value = self.path_id(name)
        if value != self.settings.bot_id:
            message = (
                f"The `{name}` query parameter value [{value}] must be the same as the authenticating user "
                f"[{self.settings.bot_id}]"
            )
            raise invalid([{"parameters": {name: [str(value)]}, "message": message}])
        return value

    def json_body(self, *known: str) -> dict[str, Any]:
        """The JSON body, an object with no other fields than these.

        Raises:
            Problem: 400.
        """
        if not isinstance(self.body, dict):
            raise invalid([{"parameters": {}, "message": "The request body must be a JSON object"}])
        for name in self.body:
            if name not in known:
                message = f"$.{name}: is not defined in the schema, which allows no additional properties"
                raise invalid([{"parameters": {f"$.{name}": [str(self.body[name])]}, "message": message}])
        return self.body


Handler = Callable[[Request], Answer]


@dataclass(frozen=True)
class Endpoint:
    """One endpoint.

    Attributes:
        name: under which its limits and what it cost are kept.
        write: what a request of it is called in the record; None for a read.
        app_only: whether the app's own token will do.
    """

    name: str
    method: str
    path: str
    handler: Handler
    write: str | None = None
    app_only: bool = False


def forbidden(detail: str, kind: str = "about:blank") -> Problem:
    return plain_problem(403, "Forbidden", detail, kind)
