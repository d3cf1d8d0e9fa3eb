"""One page of a longer list, with the tokens that lead to the next and the previous one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from app.sandbox.params import make_token
from app.sandbox.posts import Post
from app.sandbox.problems import Json

OLDER, NEWER = "o", "n"


def page_of_posts(found: Iterable[Post], size: int, token: tuple[str, int] | None) -> tuple[list[Post], Json]:
    """A page of posts that are sorted from the newest to the oldest, and its meta.

    The token stands for an id, so a page stays where it is while new posts arrive. No more is looked at than up to the
    first post behind the page.
    """
    posts = list(_up_to_behind(found, size, token))
    ids = [-post.id for post in posts]
    start = 0
    if token is not None:
        direction, place = token
        # An older page begins behind the id; a newer one ends before it.
        edge = bisect_left(ids, -place)
        start = edge + (ids[edge : edge + 1] == [-place]) if direction == OLDER else max(0, edge - size)
    shown = posts[start : start + size]
    meta: Json = {"result_count": len(shown)}
    if shown:
        meta |= {"newest_id": str(shown[0].id), "oldest_id": str(shown[-1].id)}
        if start + size < len(posts):
            meta["next_token"] = make_token(OLDER, shown[-1].id)
    if token is not None and start > 0 and shown:
        meta["previous_token"] = make_token(NEWER, shown[0].id)
    return shown, meta


def _up_to_behind(found: Iterable[Post], size: int, token: tuple[str, int] | None) -> Iterator[Post]:
    direction, place = token or (OLDER, None)
    behind = 0
    for looked_at, post in enumerate(found, 1):
        yield post
        behind += place is None or post.id < place
        if (looked_at > size and behind > 0) if direction == NEWER else behind > size:
            return


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
