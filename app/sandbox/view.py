"""What one client may see of a world: not what is suspended, nor what is protected from it."""

from __future__ import annotations

from collections.abc import Iterable

from app.sandbox.auth import Context
from app.sandbox.people import Person
from app.sandbox.posts import Post
from app.sandbox.problems import Json, Section, not_authorized, not_found, suspended
from app.sandbox.world import World


class View:
    """A world, seen with the bot's tokens or with the app's own."""

    def __init__(self, world: World, context: Context) -> None:
        self._world = world
        self.as_user = context == "user"

    def post(self, post_id: int) -> Post | None:
        """A post that there is and that may be seen. A repost may be if what it reposts may."""
        post = self._world.post(post_id)
        if post is None or not self._world.standings:
            return post
        if post.kind == "repost" and post.target_author is not None and not self._open(post.target_author):
            return None
        return post if self._open(post.author) else None

    def visible(self, ids: Iterable[int]) -> list[Post]:
        """The posts of these ids that may be seen, in their order."""
        return [post for post in map(self.post, ids) if post is not None]

    def no_post(self, parameter: str, post_id: int, section: Section = "data") -> Json:
        """Why a post cannot be seen, as a partial error."""
        if self._world.post(post_id) is None:
            return not_found("tweet", parameter, str(post_id))
        return not_authorized("tweet", parameter, str(post_id), section)

    def person(self, user_id: int) -> Person | None:
        """An account that there is and that is not suspended."""
        return None if self._world.standings.get(user_id) == "suspended" else self._world.person(user_id)

    def person_by_handle(self, handle: str) -> Person | None:
        found = self._world.person_by_handle(handle)
        return found and self.person(found.id)

    def no_person(self, parameter: str, value: str) -> Json:
        """Why an account, named by id or handle, is not shown, as a partial error."""
        found = self._world.person(int(value)) if parameter in {"id", "ids"} else self._world.person_by_handle(value)
        return not_found("user", parameter, value) if found is None else suspended(parameter, value)

    def closed(self, user_id: int) -> Json | None:
        """Why nothing of an account may be seen, as a partial error; None if it may."""
        if self.person(user_id) is None:
            return self.no_person("id", str(user_id))
        return None if self._open(user_id) else not_authorized("user", "id", str(user_id), "data")

    def _open(self, author: int) -> bool:
        standing = self._world.standings.get(author)
        if standing == "protected":
            return self.as_user and author in self._world.following_ids
        return standing is None
