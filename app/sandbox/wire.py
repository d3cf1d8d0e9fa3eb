"""X's wire form: how posts and accounts are shown with the fields and expansions asked for.

After the OpenAPI description 2.166 (https://api.x.com/2/openapi.json) and https://docs.x.com/x-api/fundamentals.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any, Literal

from app.sandbox.people import Person
from app.sandbox.posts import Post, count_until, newest_first
from app.sandbox.problems import Json, unauthorized_field
from app.sandbox.traits import HASHTAG
from app.sandbox.view import View
from app.sandbox.world import World
from app.text import MENTION, URL, links, replace_links

PRIVATE_AGE = timedelta(days=30)
# What X charges for: two kinds of read of a post, a read of an account, and what is written.
Item = Literal["post read", "owned read", "user read", "post", "post with a link", "summoned reply", "interaction"]

TWEET_FIELDS = (
    "article", "attachments", "author_id", "card_uri", "community_id", "context_annotations",
    "conversation_id", "created_at", "display_text_range", "edit_controls", "edit_history_tweet_ids",
    "entities", "geo", "id", "in_reply_to_user_id", "lang", "matched_media_notes", "media_metadata",
    "non_public_metrics", "note_request_suggestions", "note_tweet", "organic_metrics", "paid_partnership",
    "possibly_sensitive", "promoted_metrics", "public_metrics", "referenced_tweets", "reply_settings",
    "scopes", "source", "suggested_source_links", "suggested_source_links_with_counts", "text", "withheld",
)  # fmt: skip
USER_FIELDS = (
    "affiliation", "confirmed_email", "connection_status", "created_at", "description", "entities", "id",
    "is_identity_verified", "location", "most_recent_tweet_id", "name", "parody", "pinned_tweet_id",
    "profile_banner_url", "profile_image_url", "protected", "public_metrics", "receives_your_dm",
    "subscription", "subscription_type", "url", "username", "verified", "verified_followers_count",
    "verified_type", "withheld",
)  # fmt: skip
TWEET_EXPANSIONS = (
    "article.cover_media", "article.media_entities", "attachments.media_keys",
    "attachments.media_source_tweet", "attachments.poll_ids", "author_id", "edit_history_tweet_ids",
    "entities.mentions.username", "geo.place_id", "in_reply_to_user_id", "entities.note.mentions.username",
    "referenced_tweets.id", "referenced_tweets.id.attachments.media_keys", "referenced_tweets.id.author_id",
)  # fmt: skip
USER_EXPANSIONS = ("affiliation.user_id", "most_recent_tweet_id", "pinned_tweet_id")


def stamp(at: datetime) -> str:
    """A time as X writes it, to the millisecond."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def short_link(url: str) -> str:
    digest = blake2b(url.encode(), digest_size=8).hexdigest()[:10]
    return f"https://t.co/{digest}"


def shown(text: str) -> str:
    """A text as the API returns it: links shortened, `&`, `<` and `>` escaped."""
    return html.escape(replace_links(text, short_link), quote=False)


@dataclass(frozen=True)
class Selection:
    """Fields and expansions that a request asked for."""

    tweet_fields: frozenset[str] = frozenset()
    user_fields: frozenset[str] = frozenset()
    expansions: frozenset[str] = frozenset()


@dataclass
class Answer:
    """What goes back to the client, and what a real account would pay for.

    Attributes:
        posts, users: ids of what was read.
        owned: the reads are of the account's own posts or mentions, which are cheaper.
        item: what of the price list a write is.
        made: id of the post that a write made.
    """

    body: Json
    status: int = 200
    posts: list[int] = field(default_factory=list)
    users: list[int] = field(default_factory=list)
    owned: bool = False
    item: Item | None = None
    made: str | None = None


class Renderer:
    """Shows posts and accounts of a world for one request, gathering includes and partial errors."""

    def __init__(self, world: World, view: View, selection: Selection) -> None:
        self._world, self._view, self._select = world, view, selection
        self._errors: list[Json] = []
        self._users: dict[int, Json] = {}
        self._tweets: dict[int, Json] = {}

    def tweets(self, posts: Sequence[Post]) -> list[Json]:
        """Posts in wire form; what they refer to goes into the includes."""
        for post in posts:
            self._expand_post(post)
        return [self._tweet(post, "data") for post in posts]

    def users(self, people: Iterable[Person]) -> list[Json]:
        """Accounts in wire form."""
        found = list(people)
        if "most_recent_tweet_id" in self._select.expansions:
            for person in found:
                self._include_post(self._latest(person))
        return [self._user(person) for person in found]

    def error(self, error: Json) -> None:
        """Add a partial error."""
        self._errors.append(error)

    def envelope(self, data: list[Json] | Json | None, meta: Json | None = None) -> Json:
        """data, includes, errors and meta: each only where there is something in it."""
        includes = {"users": list(self._users.values()), "tweets": list(self._tweets.values())}
        parts = {
            "data": data,
            "includes": {k: v for k, v in includes.items() if v},
            "errors": self._errors,
            "meta": meta,
        }
        return {name: part for name, part in parts.items() if part}

    # --- one post ---

    def _tweet(self, post: Post, section: str) -> Json:
        text = shown(post.text)
        wanted = self._select.tweet_fields
        body: Json = {"id": str(post.id), "text": text, "edit_history_tweet_ids": [str(post.id)]}
        facts: dict[str, Callable[[], Any]] = {
            "author_id": lambda: str(post.author),
            "conversation_id": lambda: str(post.conversation),
            "created_at": lambda: stamp(post.at),
            "display_text_range": lambda: [min(post.body_start, max(0, len(text) - 1)), len(text)],
            "edit_controls": lambda: _edit_controls(post),
            "entities": lambda: self._entities(post),
            "in_reply_to_user_id": lambda: str(post.target_author) if post.kind == "reply" else None,
            "lang": lambda: "und" if post.substance == "empty" else self._world.community.file.language,
            "possibly_sensitive": lambda: False,
            "public_metrics": lambda: self._public(post),
            "referenced_tweets": lambda: _references(post),
            "reply_settings": lambda: "everyone",
            "non_public_metrics": lambda: self._private(post, section, "non_public_metrics"),
            "organic_metrics": lambda: self._private(post, section, "organic_metrics"),
        }
        for name, fact in facts.items():
            value = fact() if name in wanted else None
            if value is not None:
                body[name] = value
        return body

    def _public(self, post: Post) -> Json:
        counts = self._world.counts(post)
        return {
            "retweet_count": counts.reposts,
            "reply_count": counts.replies,
            "like_count": counts.likes,
            "quote_count": counts.quotes,
            "bookmark_count": counts.bookmarks,
            "impression_count": counts.views,
        }

    def _private(self, post: Post, section: str, name: str) -> Json | None:
        """Metrics that only the author sees, for 30 days."""
        world = self._world
        mine = post.author == world.me.id and self._view.as_user
        if not mine or world.now - post.at > PRIVATE_AGE:
            self._errors.append(unauthorized_field(str(post.id), section, name))
            return None
        counts = world.counts(post)
        common = {
            "impression_count": counts.views,
            "user_profile_clicks": counts.profile_clicks,
            **({"url_link_clicks": counts.views // 40} if links(post.text) else {}),
        }
        if name == "non_public_metrics":
            return {**common, "engagements": counts.engagements}
        return {**common, "like_count": counts.likes, "reply_count": counts.replies, "retweet_count": counts.reposts}

    def _entities(self, post: Post) -> Json | None:
        text = shown(post.text)
        originals = {short_link(link): link for link in links(post.text)}
        mentions = []
        for match in MENTION.finditer(text):
            person = self._world.person_by_handle(match.group(1))
            if person:
                mentions.append({**_span(match), "username": person.handle, "id": str(person.id)})
        urls = [
            {
                **_span(match),
                "url": match.group(),
                "expanded_url": originals.get(match.group(), match.group()),
                "display_url": originals.get(match.group(), match.group()).split("://")[-1][:27],
            }
            for match in URL.finditer(text)
        ]
        tags = [{**_span(match), "tag": match.group()[1:]} for match in HASHTAG.finditer(text)]
        found = {"mentions": mentions, "hashtags": tags, "urls": urls}
        return {name: value for name, value in found.items() if value} or None

    def _expand_post(self, post: Post) -> None:
        wanted, view = self._select.expansions, self._view
        if "author_id" in wanted:
            self._include_user(post.author)
        if "in_reply_to_user_id" in wanted and post.kind == "reply":
            self._include_user(post.target_author)
        if "entities.mentions.username" in wanted:
            for handle in MENTION.findall(post.text):
                person = view.person_by_handle(handle)
                self._include_user(person.id if person else None)
        if "edit_history_tweet_ids" in wanted:
            self._include_post(post)
        if post.target is None or not any(name.startswith("referenced_tweets.id") for name in wanted):
            return
        parent = view.post(post.target)
        if parent is None:
            self.error(view.no_post("referenced_tweets.id", post.target, "includes"))
            return
        self._include_post(parent)
        if "referenced_tweets.id.author_id" in wanted:
            self._include_user(parent.author)

    def _include_post(self, post: Post | None) -> None:
        if post is not None and post.id not in self._tweets:
            self._tweets[post.id] = self._tweet(post, "includes")

    def _include_user(self, user_id: int | None) -> None:
        person = self._view.person(user_id) if user_id else None
        if person is not None and person.id not in self._users:
            self._users[person.id] = self._user(person)

    # --- one account ---

    def _user(self, person: Person) -> Json:
        world, wanted = self._world, self._select.user_fields
        body: Json = {"id": str(person.id), "name": person.name, "username": person.handle}
        facts: dict[str, Callable[[], Any]] = {
            "created_at": lambda: stamp(person.joined),
            "description": lambda: person.bio,
            "location": lambda: person.location or None,
            "protected": lambda: world.standings.get(person.id) == "protected",
            "verified": lambda: False,
            "verified_type": lambda: "none",
            "url": lambda: "",
            "profile_image_url": lambda: f"https://pbs.twimg.com/profile_images/{person.id}/sandbox_normal.png",
            "most_recent_tweet_id": lambda: str(latest.id) if (latest := self._latest(person)) else None,
            "connection_status": lambda: self._connection(person) if self._view.as_user else None,
            "public_metrics": lambda: {
                "followers_count": len(world.followers(person.id)),
                "following_count": len(world.following(person.id)),
                "tweet_count": count_until(world.shelf.by_author.get(person.id, []), world.until),
                "listed_count": int(40 * person.pull),
                "like_count": 0,
            },
        }
        for name, fact in facts.items():
            value = fact() if name in wanted else None
            if value is not None:
                body[name] = value
        return body

    def _connection(self, person: Person) -> list[str]:
        following = ["following"] if person.id in self._world.following_ids else []
        return following + (["followed_by"] if person.id in self._world.followers(self._world.me.id) else [])

    def _latest(self, person: Person) -> Post | None:
        ids = newest_first(self._world.shelf.by_author.get(person.id, []), 0, self._world.until)
        return next((post for post in map(self._view.post, ids) if post is not None), None)


def _references(post: Post) -> list[Json] | None:
    names = {"reply": "replied_to", "quote": "quoted", "repost": "retweeted"}
    return [{"type": names[post.kind], "id": str(post.target)}] if post.kind in names else None


def _edit_controls(post: Post) -> Json:
    until = post.at + timedelta(hours=1)
    return {"edits_remaining": 5, "is_edit_eligible": post.kind == "post", "editable_until": stamp(until)}


def _span(match: re.Match[str]) -> Json:
    return {"start": match.start(), "end": match.end()}
