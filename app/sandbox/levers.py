"""Levers of the control API under /_sandbox/: faults, accounts and posts that vanish, credits, consent.

They answer on loopback only.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field

from app.sandbox import ledger
from app.sandbox.faults import Fault, Faults
from app.sandbox.posts import to_ms
from app.sandbox.tokens import Tokens
from app.sandbox.wire import stamp
from app.sandbox.world import Standing, World

LOOPBACK = frozenset({"127.0.0.1", "::1", "testclient"})


class StandingIn(BaseModel):
    """What becomes of an account: suspended by X, protected by its owner, or open again."""

    model_config = ConfigDict(extra="forbid")

    handle: str
    standing: Standing


class RemovalIn(BaseModel):
    """A post that its author deletes."""

    model_config = ConfigDict(extra="forbid")

    id: str


class PurchaseIn(BaseModel):
    """Credits bought, US dollars."""

    model_config = ConfigDict(extra="forbid")

    usd: float = Field(gt=0)


def loopback(request: Request) -> None:
    """A dependency of what nobody signs for.

    Raises:
        HTTPException: 403, the request is from another machine.
    """
    if request.client is not None and request.client.host not in LOOPBACK:
        raise HTTPException(403, "this answers on loopback only")


def loopback_router() -> APIRouter:
    return APIRouter(prefix="/_sandbox", dependencies=[Depends(loopback)])


def router(world: World, faults: Faults, tokens: Tokens) -> APIRouter:
    """What the control API does to a world."""
    api = loopback_router()
    _add_faults(api, faults)
    _add_money(api, world, tokens)

    @api.post("/standing")
    async def set_standing(wanted: StandingIn) -> dict[str, str]:
        """Suspend a member, let it protect its posts, or open it again; it lasts over a restart."""
        person = world.community.people.by_handle(wanted.handle)
        if person is None:
            raise HTTPException(422, f"handle: there is no member {wanted.handle!r}; /_sandbox/members lists them")
        with world.store.transaction():
            world.set_standing(person.id, wanted.standing)
        return {"id": str(person.id), "handle": person.handle, "standing": wanted.standing}

    @api.post("/remove")
    async def remove(wanted: RemovalIn) -> dict[str, str]:
        """Let a member delete a post."""
        world.tick()
        post = world.post(int(wanted.id)) if wanted.id.isdecimal() else None
        if post is None or post.author == world.me.id:
            raise HTTPException(422, f"id: there is no post {wanted.id!r} by a member; give the id of one that shows")
        with world.store.transaction():
            world.delete(post)
        return {"id": wanted.id}

    return api


def _add_faults(api: APIRouter, faults: Faults) -> None:
    @api.get("/faults")
    async def active() -> list[Fault]:
        return faults.active

    @api.post("/faults")
    async def switch(wanted: list[Fault]) -> list[Fault]:
        """Replace the faults that are on; an empty list switches all off."""
        faults.active = list(wanted)
        return faults.active

    @api.get("/script")
    async def remaining() -> list[Fault]:
        return faults.script

    @api.post("/script")
    async def write_script(wanted: list[Fault]) -> list[Fault]:
        """Say what happens to the next requests, one entry each; this replaces what is left of an earlier script."""
        faults.script = list(wanted)
        return faults.script


def _add_money(api: APIRouter, world: World, tokens: Tokens) -> None:
    @api.get("/ledger")
    async def show_ledger() -> dict[str, Any]:
        return ledger.report(world.store)

    @api.post("/credits")
    async def buy(wanted: PurchaseIn) -> dict[str, Any]:
        """Buy credits; the first purchase is also what makes them end."""
        world.tick()
        with world.store.transaction():
            world.store.buy(stamp(world.now), wanted.usd)
        return ledger.report(world.store)

    @api.post("/authorize")
    async def authorize() -> dict[str, Any]:
        """Consent, as the bot's user would on X's page: a first pair of OAuth 2.0 tokens."""
        world.tick()
        with world.store.transaction():
            return tokens.consent(to_ms(world.now))
