"""One page of a longer list, with the tokens that lead to the next and the previous one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import islice

from app.sandbox.params import make_token
from app.sandbox.posts import Post
from app.sandbox.problems import Json

OLDER, NEWER = "o", "n"


def page_of_posts(posts: Sequence[Post], size: int, token: tuple[str, int] | None) -> tuple[list[Post], Json]:
    """A page of posts that are sorted from the newest to the oldest, and its meta.

    The token stands for an id, so a page stays where it is while new posts arrive.
    """
    ids = [-post.id for post in posts]
    start = 0
    if token is not None:
        direction, place = token
        # An older page begins behind the id; a newer one ends before it.
        edge = bisect_left(ids, -place)
        start = edge + (ids[edge : edge + 1] == [-place]) if direction == OLDER else max(0, edge - size)
    shown = list(islice(posts, start, start + size))
    meta: Json = {"result_count": len(shown)}
    if shown:
        meta |= {"newest_id": str(shown[0].id), "oldest_id": str(shown[-1].id)}
        if start + size < len(posts):
            meta["next_token"] = make_token(OLDER, shown[-1].id)
    if token is not None and start > 0 and shown:
        meta["previous_token"] = make_token(NEWER, shown[0].id)
    return shown, meta


def page_of_ids(ids: Sequence[int], size: int, token: tuple[str, int] | None) -> tuple[list[int], Json]:
    """A page of accounts, and its meta. The token stands for a place in the list."""
    start = token[1] if token is not None else 0
    shown = list(ids[start : start + size])
    meta: Json = {"result_count": len(shown)}
    if start + size < len(ids):
        meta["next_token"] = make_token(OLDER, start + size)
    if start > 0:
        meta["previous_token"] = make_token(NEWER, max(0, start - size))
    return shown, meta
