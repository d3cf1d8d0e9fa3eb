"""What the sandbox itself makes of what the bot posted: how hostile it was, who turned against it, what that cost.

It looks at texts by its own lexicon and asks none of the bot's filters, so a filter can be held against it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from app.sandbox.community import Draft
from app.sandbox.posts import Post, to_ms
from app.sandbox.world import World


def judgement(world: World) -> dict[str, Any]:
    """Every post that the bot ever made, deleted ones too, and what was lost by blocks up to now.

    Returns:
        posts: each with its `traits`, its answers and those of them against it, and the accounts that it made block.
        blocked: `accounts` and among them `members` that block the bot, and `reach_lost`, their share of all
            engagement, as a mean over topics.
    """
    gone = world.blocked_by_now()
    people = world.community.people
    topics = list(world.community.file.topics)
    blocking = np.isin(people.ids, np.array(sorted(gone), dtype=np.uint64))
    return {
        "posts": [_judged(world, post) for post in world.own],
        "blocked": {
            "accounts": len(gone),
            "members": sum(user in people.place for user in gone),
            "of_accounts": len(people),
            "of_members": len(people.members),
            "reach_lost": float(np.mean([people.appetite(topic)[blocking].sum() for topic in topics])),
        },
    }


def _judged(world: World, post: Post) -> dict[str, Any]:
    parent = world.shelf.by_id.get(post.target) if post.target else None
    draft = Draft(post.body, post.kind, parent, post.topic)
    reactions, now = world.reactions(post), to_ms(world.now)
    written = [answer for answer in reactions.written if answer.id <= world.until]
    return {
        "id": str(post.id),
        "kind": post.kind,
        "traits": world.community.traits(draft),
        "replies": _count(written, "reply"),
        "quotes": _count(written, "quote"),
        "angry_replies": _count((answer for answer in written if answer.stance < 0), "reply"),
        "angry_quotes": _count((answer for answer in written if answer.stance < 0), "quote"),
        "blocks": reactions.blocks.count(now),
    }


def _count(posts: Iterable[Post], kind: str) -> int:
    return sum(post.kind == kind for post in posts)
