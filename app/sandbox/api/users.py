"""Accounts: looking them up, and who follows whom."""

from __future__ import annotations

from collections.abc import Sequence

from app.sandbox.api.endpoint import Endpoint, Request, forbidden
from app.sandbox.paging import page_of_ids
from app.sandbox.params import HANDLE, ID, USER_SELECTORS
from app.sandbox.people import Person
from app.sandbox.problems import NOT_AUTHORIZED, Problem, invalid
from app.sandbox.wire import Answer, Selection

NO_FOLLOWS = "Following accounts is not part of your access tier."


def look_up(request: Request) -> Answer:
    """GET /2/users."""
    params = request.params("ids", *USER_SELECTORS)
    ids, selection = params.ids("ids"), params.user_selection()
    params.check()
    return _several(request, selection, "ids", [(request.view.person(i), str(i)) for i in ids])


def look_up_by_handles(request: Request) -> Answer:
    """GET /2/users/by."""
    params = request.params("usernames", *USER_SELECTORS)
    handles, selection = params.handles("usernames"), params.user_selection()
    params.check()
    return _several(request, selection, "usernames", [(request.view.person_by_handle(h), h) for h in handles])


def _several(
    request: Request, selection: Selection, parameter: str, wanted: Sequence[tuple[Person | None, str]]
) -> Answer:
    renderer = request.renderer(selection)
    for person, value in wanted:
        if person is None:
            renderer.error(request.view.no_person(parameter, value))
    people = [person for person, _ in wanted if person is not None]
    return Answer(renderer.envelope(renderer.users(people)), users=[person.id for person in people])


def look_up_one(request: Request) -> Answer:
    """GET /2/users/:id."""
    user_id = request.path_id()
    return _one(request, request.view.person(user_id), "id", str(user_id))


def look_up_by_handle(request: Request) -> Answer:
    """GET /2/users/by/username/:username."""
    handle = request.path["username"]
    if not HANDLE.match(handle):
        message = f"The `username` query parameter value [{handle}] does not match ^[A-Za-z0-9_]{{1,15}}$"
        raise invalid([{"parameters": {"username": [handle]}, "message": message}])
    return _one(request, request.view.person_by_handle(handle), "username", handle)


def me(request: Request) -> Answer:
    """GET /2/users/me."""
    return _one(request, request.world.me, "id", str(request.settings.bot_id))


def _one(request: Request, person: Person | None, parameter: str, value: str) -> Answer:
    params = request.params(*USER_SELECTORS)
    selection = params.user_selection()
    params.check()
    renderer = request.renderer(selection)
    if person is None:
        renderer.error(request.view.no_person(parameter, value))
        return Answer(renderer.envelope(None))
    return Answer(renderer.envelope(renderer.users([person])[0]), users=[person.id])


def following(request: Request) -> Answer:
    """GET /2/users/:id/following."""
    return _graph(request, "following")


def followers(request: Request) -> Answer:
    """GET /2/users/:id/followers."""
    return _graph(request, "followers")


def _graph(request: Request, side: str) -> Answer:
    params = request.params("max_results", "pagination_token", *USER_SELECTORS)
    size, token = params.number("max_results", 1, 1000, 100), params.token("pagination_token")
    selection, user_id = params.user_selection(), request.path_id()
    params.check()
    world, view, renderer = request.world, request.view, request.renderer(selection)
    closed = view.closed(user_id)
    if closed is not None:
        renderer.error(closed)
        return Answer(renderer.envelope(None))
    ids, meta = page_of_ids(world.following(user_id) if side == "following" else world.followers(user_id), size, token)
    people = [person for person in map(view.person, ids) if person is not None]
    return Answer(renderer.envelope(renderer.users(people), meta), users=ids)


def follow(request: Request) -> Answer:
    """POST /2/users/:id/following."""
    request.own_id()
    body = request.json_body("target_user_id")
    target = body.get("target_user_id")
    if not isinstance(target, str) or not ID.match(target):
        message = "$.target_user_id: does not match the regex pattern ^[0-9]{1,19}$"
        raise invalid([{"parameters": {"$.target_user_id": [str(target)]}, "message": message}])
    if request.settings.tier != "enterprise":
        raise forbidden(NO_FOLLOWS, NOT_AUTHORIZED)
    if request.view.person(int(target)) is None:
        raise Problem(404, {**request.view.no_person("id", target), "parameter": "target_user_id", "status": 404})
    if int(target) == request.settings.bot_id:
        raise forbidden("You cannot follow yourself.")
    if request.view.closed(int(target)):
        # Nobody here grants a request to follow, so it stays one.
        return Answer({"data": {"following": False, "pending_follow": True}}, item="interaction")
    request.world.follow(int(target))
    return Answer({"data": {"following": True, "pending_follow": False}}, item="interaction")


def unfollow(request: Request) -> Answer:
    """DELETE /2/users/:source_user_id/following/:target_user_id."""
    request.own_id("source_user_id")
    request.world.unfollow(request.path_id("target_user_id"))
    return Answer({"data": {"following": False}}, item="interaction")


ENDPOINTS = (
    Endpoint("me", "GET", "/2/users/me", me),
    Endpoint("users_by_handles", "GET", "/2/users/by", look_up_by_handles, app_only=True),
    Endpoint("user_by_handle", "GET", "/2/users/by/username/{username}", look_up_by_handle, app_only=True),
    Endpoint("users_by_ids", "GET", "/2/users", look_up, app_only=True),
    Endpoint("user_by_id", "GET", "/2/users/{id}", look_up_one, app_only=True),
    Endpoint("following", "GET", "/2/users/{id}/following", following, app_only=True),
    Endpoint("followers", "GET", "/2/users/{id}/followers", followers, app_only=True),
    Endpoint("follow", "POST", "/2/users/{id}/following", follow, write="follow"),
    Endpoint(
        "unfollow",
        "DELETE",
        "/2/users/{source_user_id}/following/{target_user_id}",
        unfollow,
        write="unfollow",
    ),
)
