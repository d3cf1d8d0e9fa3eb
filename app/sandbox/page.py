"""A page to look at: the community, what it talks about, and what became of the bot's posts."""

from __future__ import annotations

from html import escape

from fastapi import APIRouter
from starlette.responses import HTMLResponse

from app.sandbox.posts import Post, newest_first
from app.sandbox.wire import stamp
from app.sandbox.world import World

RECENT = 40
STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2rem; border-bottom: 1px solid #8884; }
article { padding: .6rem 0; border-bottom: 1px solid #8883; } article.answer { margin-left: 2rem; }
small { opacity: .7; } .against { color: #c33; }
textarea { display: block; width: 100%; box-sizing: border-box; font: inherit; }
table { border-collapse: collapse; } td { padding: .15rem .8rem .15rem 0; }
"""


def router(world: World) -> APIRouter:
    """The page of a world."""
    pages = APIRouter()

    @pages.get("/", response_class=HTMLResponse)
    async def front() -> str:
        world.tick()
        return _front(world)

    return pages


def document(title: str, body: str) -> str:
    """A page around a body, which must be escaped already."""
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<link rel=icon href='data:,'><title>{escape(title)}</title><style>{STYLE}</style><main>{body}</main></html>"
    )


def _front(world: World) -> str:
    file = world.community.file
    own = [post for post in reversed(world.own) if post.id not in world.deleted]
    recent = world.visible(newest_first(world.shelf.all, 0, world.until))[:RECENT]
    calls = world.store.calls()
    paid = sum(usd for _, usd in calls.values())
    answered = "".join(_with_answers(world, post) for post in own)
    members = "".join(
        f"<tr><td>@{escape(p.handle)}</td><td>{escape(p.name)}</td><td>{len(world.followers(p.id))} followers</td>"
        f"<td>{escape(', '.join(p.interests))}</td></tr>"
        for p in world.community.people.members
    )
    return document(
        file.title,
        f"<h1>{escape(file.title)}</h1><p>{escape(file.about)}</p>"
        f"<p><small>World time {stamp(world.now)}. {sum(n for n, _ in calls.values())} requests, "
        f"which would have cost ${paid:.2f}.</small></p>"
        f"<h2>What @{escape(world.me.handle)} posted ({len(own)})</h2>{answered or '<p>Nothing yet.</p>'}"
        f"<h2>Latest posts</h2>{''.join(article(world, p) for p in recent)}"
        f"<h2>Members</h2><table>{members}</table>",
    )


def _with_answers(world: World, post: Post) -> str:
    ids = [*world.shelf.answering("reply", post.id), *world.shelf.answering("quote", post.id)]
    parent = world.post(post.target) if post.target else None
    above = f"<p><small>to: {escape(parent.text)}</small></p>" if parent else ""
    answers = "".join(article(world, answer, "answer") for answer in world.visible(sorted(ids)))
    return above + article(world, post) + answers


def article(world: World, post: Post, sort: str = "") -> str:
    """One post with what it earned so far."""
    author, counts = world.person(post.author), world.counts(post)
    stance = " against" if post.stance < 0 else ""
    by = f"@{escape(author.handle if author else '?')} · {post.kind} · {stamp(post.at)}"
    earned = " · ".join(f"{value} {name}" for name, value in vars(counts).items())
    return (
        f"<article class='{sort}{stance}'><small>{by}</small>"
        f"<div>{escape(post.text)}</div><small>{earned}</small></article>"
    )
