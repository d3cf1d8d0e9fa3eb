"""What X tells us, in our own frozen types. Texts are unescaped; a count that X did not give is None, never 0."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.x.errors import XError


@dataclass(frozen=True, slots=True)
class XUser:
    """A profile. X's API does not tell whether an account carries the Automated label."""

    user_id: str
    handle: str
    name: str | None = None
    bio: str | None = None
    location: str | None = None
    followers: int | None = None
    following: int | None = None
    protected: bool | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """Engagement of a post at the moment of reading."""

    likes: int | None = None
    retweets: int | None = None
    replies: int | None = None
    quotes: int | None = None
    bookmarks: int | None = None
    impressions: int | None = None
    url_link_clicks: int | None = None
    user_profile_clicks: int | None = None


@dataclass(frozen=True, slots=True)
class Tweet:
    """A post of anybody. `urls` are expanded; `reposted_post_id` is set where it only repeats another post."""

    x_post_id: str
    author_id: str
    text: str
    created_at: datetime
    lang: str | None = None
    conversation_id: str | None = None
    in_reply_to_post_id: str | None = None
    in_reply_to_user_id: str | None = None
    quoted_post_id: str | None = None
    reposted_post_id: str | None = None
    mentioned_user_ids: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    counts: Counts = field(default_factory=Counts)
    author: XUser | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some posts, newest first, and the token of the page after it (None on the last)."""

    tweets: list[Tweet]
    next_token: str | None


@dataclass(frozen=True, slots=True)
class Sent:
    """A text that was handed to X, or in a dry run would have been. `x_post_id` is None exactly if dry."""

    x_post_id: str | None
    dry: bool
    text: str


@dataclass(frozen=True, slots=True)
class Welcome:
    """How X receives us. Either `user` or `error` says so, unless the answer holds neither.

    Attributes:
        status: the HTTP status, None if no answer came.
        clock_ahead: how far X's clock is ahead of ours beyond what the way there and back explains; None if it did not
            say. Below zero, ours is ahead.
        access: what the app may do, `read` or `read-write` and what else X has; None if it did not say.
    """

    error: XError | None = None
    status: int | None = None
    user: XUser | None = None
    clock_ahead: timedelta | None = None
    access: str | None = None


def newest_id(tweets: Iterable[Tweet]) -> str | None:
    """The newest X id among posts, which is what a cursor should be advanced to; None if there are none."""
    return max((tweet.x_post_id for tweet in tweets), key=int, default=None)
