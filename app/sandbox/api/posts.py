"""Posts: making, deleting and looking them up, and what they earned."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from app.sandbox.api.endpoint import Endpoint, Request, forbidden
from app.sandbox.paging import page_of_ids, page_of_posts
from app.sandbox.params import ID, TWEET_SELECTORS, USER_SELECTORS
from app.sandbox.posts import Kind, Post
from app.sandbox.problems import NOT_AUTHORIZED, Json, Problem, invalid, not_found, plain_problem
from app.sandbox.wire import Answer, Item, shown, stamp
from app.text import MAX_WEIGHTED_LENGTH, fits, links, mentions, weighted_length

DUPLICATE = "You are not allowed to create a Tweet with duplicate content."
UNSUMMONED = "You can only reply to or quote posts where you are mentioned or are the author."
GONE = "You attempted to reply to a Tweet that is deleted or not visible to you."
TOO_LONG = (
    "Your Tweet text is too long. For more information on how X determines text length see "
    "https://github.com/twitter/twitter-text."
)
STRANGE = "Your Tweet contains invalid characters."
CREATE_FIELDS = (
    "card_uri", "community_id", "direct_message_deep_link", "edit_options", "for_super_followers_only", "geo",
    "made_with_ai", "media", "nullcast", "paid_partnership", "poll", "quote_tweet_id", "reply",
    "reply_settings", "share_with_followers", "text",
)  # fmt: skip
PLAYED_FIELDS = ("made_with_ai", "quote_tweet_id", "reply", "reply_settings", "text")
ANALYTICS_FIELDS = (
    "app_install_attempts", "app_opens", "bookmarks", "detail_expands", "email_tweet", "engagements",
    "follows", "hashtag_clicks", "id", "impressions", "likes", "media_views", "permalink_clicks",
    "quote_tweets", "replies", "retweets", "shares", "timestamp", "unfollows", "unlikes", "url_clicks",
    "user_profile_clicks",
)  # fmt: skip
STEPS = {"hourly": timedelta(hours=1), "daily": timedelta(days=1), "weekly": timedelta(days=7)}
MAX_BINS = 1000


def create(request: Request) -> Answer:
    """POST /2/tweets. Rules that the description leaves out come after X's own order: form, right, content, target."""
    body = request.json_body(*CREATE_FIELDS)
    text, kind, target_id = _read_post(body)
    world = request.world
    target = request.view.post(target_id) if target_id is not None else None
    if target_id is not None and target is None:
        raise forbidden(GONE if kind == "reply" else GONE.replace("reply to", "quote"))
    summoned = target is not None and _summoned(request, target)
    if request.settings.tier != "enterprise" and kind != "post" and not (summoned and kind == "reply"):
        raise forbidden(UNSUMMONED, NOT_AUTHORIZED)
    post = world.compose(text, kind, target)
    if world.repeats(post.text):
        raise forbidden(DUPLICATE)
    world.publish(post)
    plain: Item = "summoned reply" if summoned and kind == "reply" else "post"
    item: Item = "post with a link" if links(text) else plain
    return Answer({"data": {"id": str(post.id), "text": shown(post.text)}}, 201, item=item, made=str(post.id))


def _read_post(body: dict[str, Any]) -> tuple[str, Kind, int | None]:
    """Text, kind and target of a request to post.

    Raises:
        Problem: 400.
    """
    for name in sorted(set(body) - set(PLAYED_FIELDS)):
        raise invalid([_wrong_field(name, body[name], "is not played by this sandbox")])
    reply, quoted = body.get("reply"), body.get("quote_tweet_id")
    target = quoted
    if reply is not None:
        if not isinstance(reply, dict) or "in_reply_to_tweet_id" not in reply:
            raise invalid([_wrong_field("reply.in_reply_to_tweet_id", reply, "is missing but it is required")])
        target = reply["in_reply_to_tweet_id"]
    if target is not None and not (isinstance(target, str) and ID.match(target)):
        name = "quote_tweet_id" if reply is None else "reply.in_reply_to_tweet_id"
        raise invalid([_wrong_field(name, target, "does not match the regex pattern ^[0-9]{1,19}$")])
    text = body.get("text", "")
    if not isinstance(text, str) or not text.strip():
        raise invalid([_wrong_field("text", text, "is missing or empty, and there is nothing else to post")])
    if weighted_length(text) > MAX_WEIGHTED_LENGTH:
        raise plain_problem(400, "Bad Request", TOO_LONG)
    if not fits(text):
        raise plain_problem(400, "Bad Request", STRANGE)
    kind: Kind = "reply" if reply is not None else "quote" if quoted is not None else "post"
    return text, kind, int(target) if target is not None else None


def _wrong_field(name: str, value: object, message: str) -> Json:
    return {"parameters": {f"$.{name}": [str(value)]}, "message": f"$.{name}: {message}"}


def _summoned(request: Request, target: Post) -> bool:
    """Whether the author of a post asked for an answer: it is our own, mentions us, or quotes or answers us."""
    me = request.world.me
    return me.id in {target.author, target.target_author} or me.handle.lower() in mentions(target.text)


def delete(request: Request) -> Answer:
    """DELETE /2/tweets/:id."""
    post_id = request.path_id()
    post = request.world.post(post_id)
    if post is None:
        raise Problem(404, {**not_found("tweet", "id", str(post_id)), "status": 404})
    if post.author != request.settings.bot_id:
        raise forbidden("You are not authorized to delete this Tweet.")
    request.world.delete(post)
    return Answer({"data": {"deleted": True}})


def look_up(request: Request) -> Answer:
    """GET /2/tweets."""
    params = request.params("ids", *TWEET_SELECTORS)
    ids, selection = params.ids("ids"), params.tweet_selection()
    params.check()
    renderer, view = request.renderer(selection), request.view
    found = view.visible(ids)
    present = {post.id for post in found}
    for missing in (i for i in ids if i not in present):
        renderer.error(view.no_post("ids", missing))
    owned = all(post.author == request.settings.bot_id for post in found)
    return Answer(renderer.envelope(renderer.tweets(found)), posts=[post.id for post in found], owned=owned)


def look_up_one(request: Request) -> Answer:
    """GET /2/tweets/:id."""
    params = request.params(*TWEET_SELECTORS)
    selection, post_id = params.tweet_selection(), request.path_id()
    params.check()
    renderer, view = request.renderer(selection), request.view
    post = view.post(post_id)
    if post is None:
        renderer.error(view.no_post("id", post_id))
        return Answer(renderer.envelope(None))
    owned = post.author == request.settings.bot_id
    return Answer(renderer.envelope(renderer.tweets([post])[0]), posts=[post.id], owned=owned)


def liking_users(request: Request) -> Answer:
    """GET /2/tweets/:id/liking_users. X shows the latest hundred, ever."""
    return _users_of_post(request, request.world.likers, 100)


def retweeted_by(request: Request) -> Answer:
    """GET /2/tweets/:id/retweeted_by."""
    return _users_of_post(request, request.world.reposters, None)


def _users_of_post(request: Request, list_users: Any, most: int | None) -> Answer:
    params = request.params("max_results", "pagination_token", *USER_SELECTORS)
    size, token = params.number("max_results", 1, 100, 100), params.token("pagination_token")
    selection, post_id = params.user_selection(), request.path_id()
    params.check()
    renderer, view = request.renderer(selection), request.view
    post = view.post(post_id)
    if post is None:
        renderer.error(view.no_post("id", post_id))
        return Answer(renderer.envelope(None))
    ids, meta = page_of_ids(list_users(post)[:most], size, token)
    people = [person for person in map(view.person, ids) if person is not None]
    return Answer(renderer.envelope(renderer.users(people), meta), users=ids)


def quote_tweets(request: Request) -> Answer:
    """GET /2/tweets/:id/quote_tweets."""
    params = request.params("max_results", "pagination_token", "exclude", *TWEET_SELECTORS)
    size, token = params.number("max_results", 10, 100, 10), params.token("pagination_token")
    params.several("exclude", ("replies", "retweets"))
    selection, post_id = params.tweet_selection(), request.path_id()
    params.check()
    renderer, view = request.renderer(selection), request.view
    if view.post(post_id) is None:
        renderer.error(view.no_post("id", post_id))
        return Answer(renderer.envelope(None))
    quotes = view.visible(reversed(request.world.shelf.answering("quote", post_id)))
    page, meta = page_of_posts(quotes, size, token)
    meta = {name: value for name, value in meta.items() if name in {"next_token", "result_count"}}
    return Answer(renderer.envelope(renderer.tweets(page), meta), posts=[post.id for post in page])


def analytics(request: Request) -> Answer:
    """GET /2/tweets/analytics: what own posts earned in each part of a span of time."""
    params = request.params("ids", "start_time", "end_time", "granularity", "analytics.fields")
    ids = params.ids("ids")
    start, end = params.moment("start_time", required=True), params.moment("end_time", required=True)
    step = params.one_of("granularity", ("hourly", "daily", "weekly", "total"), "total")
    fields = params.several("analytics.fields", ANALYTICS_FIELDS)
    if start and end and not start < end:
        params.wrong("start_time", stamp(start), "The `start_time` query parameter must be before `end_time`")
    if start and end and step in STEPS and (end - start) / STEPS[step] > MAX_BINS:
        params.wrong("granularity", step, f"The time range has more than {MAX_BINS} parts of [{step}]")
    params.check()
    data: list[Json] = []
    errors: list[Json] = []
    for post_id in ids:
        post = request.world.post(post_id)
        if post is None or post.author != request.settings.bot_id:
            errors.append(not_found("tweet", "ids", str(post_id)))
        elif start and end:
            bins = _bins(request, post, (start, end), step, fields)
            data.append({"id": str(post_id), "timestamped_metrics": bins})
    body: Json = {"data": data} if data else {}
    return Answer({**body, "errors": errors} if errors else body, posts=[int(d["id"]) for d in data], owned=True)


def _bins(
    request: Request, post: Post, span: tuple[datetime, datetime], step: str, fields: frozenset[str]
) -> list[Json]:
    world, (start, end) = request.world, span
    width = STEPS.get(step, end - start)
    bins, at = [], start
    while at < min(end, world.now):
        after = min(at + width, end)
        before, now = world.counts_at(post, at), world.counts_at(post, after)
        metrics = {
            "impressions": now.views - before.views,
            "likes": now.likes - before.likes,
            "retweets": now.reposts - before.reposts,
            "replies": now.replies - before.replies,
            "quote_tweets": now.quotes - before.quotes,
            "bookmarks": now.bookmarks - before.bookmarks,
            "engagements": now.engagements - before.engagements,
            "user_profile_clicks": now.profile_clicks - before.profile_clicks,
        }
        wanted = {name: value for name, value in metrics.items() if not fields or name in fields}
        bins.append({"timestamp": stamp(at.astimezone(UTC)), "metrics": wanted})
        at = after
    return bins


ENDPOINTS = (
    Endpoint("create_post", "POST", "/2/tweets", create, write="post"),
    Endpoint("delete_post", "DELETE", "/2/tweets/{id}", delete, write="delete"),
    Endpoint("analytics", "GET", "/2/tweets/analytics", analytics),
    Endpoint("posts_by_ids", "GET", "/2/tweets", look_up, app_only=True),
    Endpoint("post_by_id", "GET", "/2/tweets/{id}", look_up_one, app_only=True),
    Endpoint("liking_users", "GET", "/2/tweets/{id}/liking_users", liking_users),
    Endpoint("retweeted_by", "GET", "/2/tweets/{id}/retweeted_by", retweeted_by, app_only=True),
    Endpoint("quote_posts", "GET", "/2/tweets/{id}/quote_tweets", quote_tweets, app_only=True),
)
