"""The control API under /_sandbox/: what a test, a demo and a measurement may know, and X's API may not tell.

`app/sandbox/levers.py` has what they may do. Both answer on loopback only.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, HTTPException, Query
from pydantic import BaseModel, ConfigDict

from app.sandbox.community import Draft
from app.sandbox.judgement import judgement
from app.sandbox.levers import loopback_router
from app.sandbox.posts import Post
from app.sandbox.store import Write
from app.sandbox.wire import stamp
from app.sandbox.world import World
from app.text import canonical


class DraftIn(BaseModel):
    """A draft to be told the truth about.

    Attributes:
        reply_to: id of the post that it answers or quotes; or give that post's text as `parent_text`.
        topic: name of the topic, held-out ones too; left out, it is the parent's, or read off the text.
    """

    model_config = ConfigDict(extra="forbid")

    text: str
    kind: Literal["reply", "post", "quote"] = "post"
    reply_to: str | None = None
    parent_text: str | None = None
    topic: str | None = None


class TruthIn(BaseModel):
    """Drafts, judged each for itself; with `in_order`, each as if those before it had been posted."""

    model_config = ConfigDict(extra="forbid")

    drafts: list[DraftIn]
    in_order: bool = False


def posted(record: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The write requests that made a post."""
    return [row for row in record if row["id"] is not None and row["kind"] in {"post", "reply", "quote"}]


def duplicates(record: list[dict[str, Any]]) -> int:
    """Posts made that answer or quote what was answered or quoted before, or say again what was said there before."""
    made = posted(record)
    targets = Counter((row["kind"], row["target"]) for row in made if row["target"])
    texts = Counter((row["target"], canonical(row["text"] or "")) for row in made if not row["target"])
    return sum(count - 1 for count in (*targets.values(), *texts.values()))


def router(world: World) -> APIRouter:
    """What the control API tells of a world."""
    api = loopback_router()

    @api.get("/health")
    async def health() -> dict[str, Any]:
        world.tick()
        return {"status": "ok", "world_time": stamp(world.now), "community": world.community.file.name}

    @api.get("/record")
    async def record() -> list[dict[str, Any]]:
        return world.store.record()

    @api.get("/summary")
    async def summary() -> dict[str, Any]:
        return _summary(world)

    @api.get("/judgement")
    async def judgement_of_posts() -> dict[str, Any]:
        world.tick()
        return judgement(world)

    @api.get("/windows")
    async def windows() -> list[dict[str, Any]]:
        return [asdict(window) for window in world.store.windows()]

    @api.get("/members")
    async def members() -> list[dict[str, Any]]:
        return [
            {
                "id": str(person.id),
                "handle": person.handle,
                "name": person.name,
                "followers": len(world.followers(person.id)),
                "interests": person.interests,
            }
            for person in world.community.people.members
        ]

    @api.get("/topics")
    async def topics(examples: Annotated[int, Query(ge=0, le=1000)] = 3) -> dict[str, Any]:
        return dict(world.community.topics(examples))

    @api.post("/truth")
    async def truth(wanted: Annotated[TruthIn | list[DraftIn], Body()]) -> list[dict[str, Any]]:
        world.tick()
        drafts = wanted if isinstance(wanted, list) else wanted.drafts
        in_order = not isinstance(wanted, list) and wanted.in_order
        found, earlier = [], list[str]()
        for number, draft in enumerate(drafts):
            found.append(asdict(world.community.truth(_draft(world, draft, number), earlier if in_order else ())))
            earlier.append(draft.text)
        return found

    @api.post("/plant-duplicate")
    async def plant_duplicate() -> dict[str, Any]:
        """Note a second copy of the latest post in the record, as if it had been received."""
        made = posted(world.store.record())
        if not made:
            raise HTTPException(409, "there is no post to copy yet; plant one after the bot has posted")
        copied = {name: made[-1][name] for name in ("method", "path", "kind", "text", "target", "status", "id")}
        with world.store.transaction():
            world.store.note(Write(time=stamp(world.now), **copied))
        return copied

    return api


def _draft(world: World, wanted: DraftIn, number: int) -> Draft:
    """A draft in its place.

    Raises:
        HTTPException: 422, its post or its topic does not exist.
    """
    names = {topic["name"] for part in world.community.topics(0).values() for topic in part}
    if wanted.topic is not None and wanted.topic not in names:
        raise HTTPException(422, f"drafts.{number}.topic: got {wanted.topic!r}; topics are {sorted(map(str, names))}")
    parent: Post | None = None
    if wanted.reply_to is not None:
        parent = world.post(int(wanted.reply_to)) if wanted.reply_to.isdecimal() else None
        if parent is None:
            raise HTTPException(422, f"drafts.{number}.reply_to: there is no post {wanted.reply_to!r}")
    elif wanted.parent_text is not None:
        parent = Post(0, 0, wanted.parent_text, topic=wanted.topic)
    if parent is None and wanted.kind != "post":
        raise HTTPException(422, f"drafts.{number}.reply_to: a {wanted.kind} needs reply_to or parent_text")
    return Draft(wanted.text, wanted.kind, parent, wanted.topic)


def _summary(world: World) -> dict[str, Any]:
    world.tick()
    record, calls = world.store.record(), world.store.calls()
    own = [post for post in world.own if post.id not in world.deleted]
    return {
        "world_time": stamp(world.now),
        "born": stamp(world.born),
        "community": world.community.file.name,
        "members": len(world.community.people.members),
        "accounts": len(world.community.people),
        "posts": sum(post_id <= world.until for post_id in world.shelf.all),
        "following": len(world.following_ids),
        "followers": len(world.followers(world.me.id)),
        "posted": len(posted(record)),
        "duplicates": duplicates(record),
        "bot_posts": [
            {
                "id": str(post.id),
                "kind": post.kind,
                "text": post.text,
                "target": str(post.target) if post.target else None,
                "created_at": stamp(post.at),
                **asdict(world.counts(post)),
            }
            for post in own
        ],
        "calls": {name: requests for name, (requests, _) in calls.items()},
        "usd": round(sum(usd for _, usd in calls.values()), 4),
    }
