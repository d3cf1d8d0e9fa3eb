"""An X whose members have said exactly what a test planted, over real HTTP."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from scripted_x import CANARIES, Reply, Request, ScriptedX, post, problem

from app.config import Secrets
from app.connectors.community_db import CommunityDB
from app.context import BotContext
from app.x.snowflake import snowflake_time
from app.x.types import XUser
from dbs.states import FollowState

USER_POSTS = re.compile(r"/2/users/(\d+)/tweets")
FIRST = 1_800_000_000_000_000_000


class Timelines:
    """Answers `users/:id/tweets` and post lookups from what was planted; `pages` is what was asked for."""

    def __init__(self, x: ScriptedX, planted: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        self.x = x
        self.posts: dict[str, list[dict[str, Any]]] = {}
        self.parents: dict[str, dict[str, Any]] = {}
        self.refused: dict[str, Reply] = {}
        self.pages: list[tuple[str, str | None]] = []
        number = 0
        for author, texts in planted.items():
            self.posts[author] = []
            for fields in texts:
                number += 1
                self.posts[author].append(_post(str(FIRST + number * 1000), author, fields))
        x.otherwise = self.answer

    @property
    def secrets(self) -> Secrets:
        return Secrets(**CANARIES, x_base_url=self.x.url)

    def answer(self, request: Request) -> Reply:
        found = USER_POSTS.fullmatch(request.path)
        if found:
            return self.refused.get(found.group(1)) or self._timeline(found.group(1), request)
        if request.path == "/2/tweets":
            ids = request.query["ids"].split(",")
            known = [self.parents[i] for i in ids if i in self.parents]
            gone = [problem("resource-not-found", "gone", resource_id=i) for i in ids if i not in self.parents]
            return Reply(body={"data": known, "errors": gone} if known else {"errors": gone})
        return Reply(404, problem("resource-not-found", request.path))

    def _timeline(self, author: str, request: Request) -> Reply:
        until = request.query.get("until_id")
        self.pages.append((author, until))
        older = [p for p in reversed(self.posts[author]) if until is None or int(p["id"]) < int(until)]
        if "retweets" in request.query.get("exclude", ""):
            older = [p for p in older if not _is_repost(p)]
        size = int(request.query["max_results"])
        meta = {"result_count": len(older[:size])} | ({"next_token": "more"} if len(older) > size else {})
        return Reply(body={"data": older[:size], "meta": meta} if older else {"meta": meta})


def give_members(context: BotContext, user_ids: Sequence[str]) -> None:
    context.enrol()
    with context.db.transaction() as session:
        community = CommunityDB(session, context.config.bot_id)
        community.upsert([XUser(user_id, f"member{user_id}") for user_id in user_ids])
        for user_id in user_ids:
            community.join(user_id, FollowState.FOLLOWING)


def protected() -> Reply:
    return Reply(body={"errors": [problem("not-authorized-for-resource", "You may not see this user's posts.")]})


def suspended() -> Reply:
    return Reply(body={"errors": [problem("resource-not-found", "User has been suspended.")]})


def _post(x_post_id: str, author: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    made = snowflake_time(x_post_id).astimezone(UTC)
    return post(x_post_id, author_id=author, created_at=_iso(made), **fields)


def _iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _is_repost(raw: Mapping[str, Any]) -> bool:
    return any(item["type"] == "retweeted" for item in raw.get("referenced_tweets", []))


Plant = Callable[[Mapping[str, Sequence[Mapping[str, Any]]]], tuple[BotContext, Timelines]]
