"""Timelines: an account's posts, its mentions, and home."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from heapq import merge
from itertools import islice

from app.sandbox.api.endpoint import Endpoint, Request
from app.sandbox.paging import page_of_posts
from app.sandbox.params import RANGE, TWEET_SELECTORS, Params
from app.sandbox.posts import Post, newest_first, snowflake
from app.sandbox.wire import Answer

HOME_DEPTH, POSTS_DEPTH, POSTS_DEPTH_NO_REPLIES, MENTIONS_DEPTH = 800, 3200, 800, 800
HOME_DAYS = timedelta(days=7)


def home(request: Request) -> Answer:
    """GET /2/users/:id/timelines/reverse_chronological."""
    request.own_id()
    params = request.params("exclude", *RANGE, *TWEET_SELECTORS)
    world, view = request.world, request.view
    shown_authors = {*world.following_ids, world.me.id}
    keep = _keep(params)

    def posts(low: int, high: int) -> Iterable[Post]:
        low = max(low, snowflake(world.now - HOME_DAYS, 0))
        streams = [newest_first(world.shelf.by_author.get(author, []), low, high) for author in shown_authors]
        found = (view.post(post_id) for post_id in merge(*streams, reverse=True))
        # A reply shows only to those who follow both sides of the conversation.
        return (p for p in found if p and keep(p) and (p.kind != "reply" or p.target_author in shown_authors))

    return _answer(request, params, posts, depth=HOME_DEPTH, default=100, low_size=1)


def posts_of_user(request: Request) -> Answer:
    """GET /2/users/:id/tweets."""
    user_id, view = request.path_id(), request.view
    params = request.params("exclude", *RANGE, *TWEET_SELECTORS)
    keep = _keep(params)
    depth = POSTS_DEPTH_NO_REPLIES if "replies" in request.query.get("exclude", "") else POSTS_DEPTH

    def posts(low: int, high: int) -> Iterable[Post]:
        ids = newest_first(request.world.shelf.by_author.get(user_id, []), low, high)
        return (p for p in map(view.post, ids) if p and keep(p))

    owned = user_id == request.settings.bot_id
    return _answer(request, params, posts, depth=depth, default=10, low_size=5, user_id=user_id, owned=owned)


def mentions_of_user(request: Request) -> Answer:
    """GET /2/users/:id/mentions."""
    user_id = request.path_id()
    params = request.params(*RANGE, *TWEET_SELECTORS)
    person = request.world.person(user_id)
    handle = person.handle.lower() if person else ""

    def posts(low: int, high: int) -> Iterable[Post]:
        ids = request.world.shelf.mentioning(handle, low, high)
        return (p for p in map(request.world.post, ids) if p and p.kind != "repost" and p.author != user_id)

    owned = user_id == request.settings.bot_id
    return _answer(request, params, posts, depth=MENTIONS_DEPTH, default=10, low_size=5, user_id=user_id, owned=owned)


def _keep(params: Params) -> Callable[[Post], bool]:
    excluded = params.several("exclude", ("replies", "retweets"))
    kinds = {kind for name, kind in (("replies", "reply"), ("retweets", "repost")) if name in excluded}
    return lambda post: post.kind not in kinds


def _answer(
    request: Request,
    params: Params,
    posts: Callable[[int, int], Iterable[Post]],
    *,
    depth: int,
    default: int,
    low_size: int,
    user_id: int | None = None,
    owned: bool = False,
) -> Answer:
    world = request.world
    size, token = params.number("max_results", low_size, 100, default), params.token("pagination_token")
    low, high = params.span(world.until)
    selection = params.tweet_selection()
    params.check()
    renderer = request.renderer(selection)
    closed = request.view.closed(user_id) if user_id is not None else None
    if closed is not None:
        renderer.error(closed)
        return Answer(renderer.envelope(None))
    lag = snowflake(world.now - timedelta(milliseconds=request.hide_newer_ms), 0)
    seen = (p for p in posts(low, high) if not (request.hide_newer_ms and p.author == world.me.id and p.id > lag))
    page, meta = page_of_posts(islice(seen, depth), size, token)
    return Answer(renderer.envelope(renderer.tweets(page), meta), posts=[p.id for p in page], owned=owned)


ENDPOINTS = (
    Endpoint("home_timeline", "GET", "/2/users/{id}/timelines/reverse_chronological", home),
    Endpoint("posts_of_user", "GET", "/2/users/{id}/tweets", posts_of_user, app_only=True),
    Endpoint("mentions", "GET", "/2/users/{id}/mentions", mentions_of_user, app_only=True),
)
