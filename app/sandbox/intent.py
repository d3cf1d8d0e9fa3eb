"""X's own page for writing a post, as a web intent opens it: who sends here is the account's person, and not its API.

The access tier forbids a person nothing, and X charges nothing for it. What is posted stands in the record of writes
under this page's path.
"""

from __future__ import annotations

from html import escape
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Query
from starlette.responses import HTMLResponse

from app.sandbox.levers import loopback
from app.sandbox.page import article, document
from app.sandbox.params import ID
from app.sandbox.posts import Kind, Post
from app.sandbox.store import Write
from app.sandbox.wire import stamp
from app.sandbox.world import World
from app.text import fits, weighted_length

PATH = "/intent/post"


def router(world: World) -> APIRouter:
    """The page, and what its button does; on loopback only, because nobody signs in here."""
    pages = APIRouter(dependencies=[Depends(loopback)])

    @pages.get(PATH)
    async def write(in_reply_to: Annotated[str, Query()] = "", text: Annotated[str, Query()] = "") -> HTMLResponse:
        world.tick()
        return _form(world, in_reply_to, text)

    @pages.post(PATH)
    async def post(text: Annotated[str, Form()] = "", in_reply_to: Annotated[str, Form()] = "") -> HTMLResponse:
        world.tick()
        said, target = text.replace("\r\n", "\n").strip(), _target(world, in_reply_to)
        if in_reply_to and target is None:
            return _form(world, in_reply_to, said)
        if not fits(said):
            return _form(world, in_reply_to, said, f"{weighted_length(said)} characters; a post has 1 to 280.")
        kind: Kind = "reply" if target else "post"
        made = world.compose(said, kind, target)
        if world.repeats(made.text):
            return _form(world, in_reply_to, said, "You said that already.")
        with world.store.transaction():
            world.publish(made)
            world.store.note(_record(world, made, said))
        return HTMLResponse(document("Posted", f"<h1>Your post was sent</h1>{article(world, made)}"))

    return pages


def _form(world: World, in_reply_to: str, text: str, problem: str | None = None) -> HTMLResponse:
    target = _target(world, in_reply_to)
    if in_reply_to and target is None:
        gone = "<h1>This post is not there</h1><p>It was deleted, or it never was.</p>"
        return HTMLResponse(document("No such post", gone), 404)
    title = "Reply" if target else "Post"
    body = (
        f"<h1>{title} as @{escape(world.me.handle)}</h1>"
        + (article(world, target) if target else "")
        + (f"<p role=alert class=against>{escape(problem)}</p>" if problem else "")
        + f"<form method=post action={PATH}><input type=hidden name=in_reply_to value='{escape(in_reply_to)}'>"
        # A browser drops the first line break of a textarea.
        f"<label for=text>Your text</label><textarea id=text name=text rows=5>\n{escape(text)}</textarea>"
        f"<p><button>{title}</button></p></form>"
    )
    return HTMLResponse(document(title, body), 422 if problem else 200)


def _target(world: World, x_post_id: str) -> Post | None:
    return world.post(int(x_post_id)) if ID.match(x_post_id) else None


def _record(world: World, made: Post, said: str) -> Write:
    return Write(
        time=stamp(world.now),
        method="POST",
        path=PATH,
        kind=made.kind,
        text=said,
        target=str(made.target) if made.target else None,
        status=200,
        id=str(made.id),
    )
