"""What a seed came to when it was written down, so that a faster sandbox is not another world.

`python tests/sandbox/golden.py` writes it down anew: only where a world is meant to be another one, with a word in the
changelog, because results from before can then no longer be compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from app.sandbox.boundedconfidence import BoundedConfidenceCommunity
from app.sandbox.community import Draft, TasteCommunity
from app.sandbox.communityfile import load
from app.sandbox.posts import Post, snowflake

FILE = Path(__file__).with_name("golden.json")
START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
DAYS = 4
FIELDS = ("id", "author", "text", "kind", "target", "target_author", "root", "body_start", "topic", "substance")
TEXTS = (
    "I counted 14 swifts at our mill in Leipzig, because nobody touched the roof. Thank you for this.",
    "Everything is connected to everything in some way.",
    "You are an idiot, and everybody KNOWS IT. Obviously!",
    "Ich habe gestern 3 Stunden am Rad geschraubt. Wie macht ihr das?",
)
WORLDS: dict[str, Callable[[], TasteCommunity]] = {
    "default, seed 1": lambda: TasteCommunity(load("default"), 1, "explorer_bot"),
    "default, seed 7": lambda: TasteCommunity(load("default"), 7, "explorer_bot"),
    "feierabend, seed 1": lambda: TasteCommunity(load("feierabend"), 1, "explorer_bot"),
    "uproar, seed 2": lambda: TasteCommunity(load("uproar"), 2, "explorer_bot"),
    "odds, seed 1, bounded_confidence": lambda: BoundedConfidenceCommunity(load("odds"), 1, "explorer_bot"),
}


def account(name: str) -> dict[str, Any]:
    """One world: a digest of its posts and follows, and what some drafts and one post of the bot come to."""
    community = WORLDS[name]()
    posts = list(community.posts_until(START, START + timedelta(days=DAYS)))
    written = "\n".join(json.dumps([getattr(post, name) for name in FIELDS]) for post in posts)
    people = community.people
    follows = [[people.followers(p.id), people.following(p.id)] for p in people.members]
    asked = next(post for post in posts if post.kind == "post" and post.topic)
    earned = {}
    for text in TEXTS:
        at = asked.at + timedelta(minutes=20)
        said = Post(snowflake(at, 5), 1_000_001, text, "reply", asked.id, asked.author, asked.id, topic=asked.topic)
        got = community.react(said, asked, [], {})
        earned[text] = {
            "truth": _rounded(asdict(community.truth(Draft(text, "reply", asked)))),
            "likes": [*got.likes.users[:3], len(got.likes.users)],
            "written": [post.text for post in got.written],
            "blocks": len(got.blocks.users),
        }
    liked = [community.member_reactions(post).likes.users for post in posts[:: len(posts) // 50]]
    return {
        "posts": len(posts),
        "posts_sha256": _digest(written),
        "follows_sha256": _digest(json.dumps(follows)),
        "members_likes_sha256": _digest(json.dumps(liked)),
        "earned": earned,
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return round(value, 9) if isinstance(value, float) else value


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    FILE.write_text(json.dumps({name: account(name) for name in WORLDS}, indent=1, ensure_ascii=False) + "\n")
