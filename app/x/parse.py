"""From X's JSON to our types, leniently: fields come and go, and two vocabularies are about.

Up to API 2.166 X says `retweet_count` and `referenced_tweets`, since 2.167 `repost_count` and `referenced_posts`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import structlog

from app.x.types import Counts, Tweet, XUser

Object = Mapping[str, Any]
MAX_COUNT = 2**31 - 1
HALF_A_PAIR = re.compile("[\ud800-\udfff]")
log = structlog.get_logger()


def tweets_of(body: Object) -> list[Tweet]:
    """The posts of an answer, with their authors where they were included. One that cannot be read is left out."""
    included = body.get("includes")
    authors = {user.user_id: user for user in users_in(included.get("users") if isinstance(included, dict) else None)}
    tweets = []
    for raw in objects_in(body.get("data")):
        tweet = tweet_of(raw, authors)
        if tweet is None:
            log.warning("x.post_unreadable", x_post_id=str(raw.get("id"))[:20], fields=sorted(raw)[:30])
        else:
            tweets.append(tweet)
    return tweets


def tweet_of(raw: Object, authors: Mapping[str, XUser]) -> Tweet | None:
    """One post; None if it has no id, no author or no time."""
    x_post_id, author_id, created_at = id_of(raw.get("id")), id_of(raw.get("author_id")), time_of(raw.get("created_at"))
    if x_post_id is None or author_id is None or created_at is None:
        return None
    note = raw.get("note_tweet") or raw.get("note_post")
    long_form: Object = note if isinstance(note, dict) and text_of(note.get("text")) else {}
    entities = long_form.get("entities") or raw.get("entities")
    entities = entities if isinstance(entities, dict) else {}
    parents = {str(item.get("type")): id_of(item.get("id")) for item in _references(raw)}
    return Tweet(
        x_post_id=x_post_id,
        author_id=author_id,
        text=text_of(long_form.get("text")) or text_of(raw.get("text")) or "",
        created_at=created_at,
        lang=text_of(raw.get("lang")),
        conversation_id=id_of(raw.get("conversation_id")),
        in_reply_to_post_id=parents.get("replied_to"),
        in_reply_to_user_id=id_of(raw.get("in_reply_to_user_id")),
        quoted_post_id=parents.get("quoted"),
        reposted_post_id=parents.get("retweeted") or parents.get("reposted"),
        mentioned_user_ids=_distinct(id_of(item.get("id")) for item in objects_in(entities.get("mentions"))),
        urls=_distinct(
            text_of(item.get("unwound_url")) or text_of(item.get("expanded_url")) or text_of(item.get("url"))
            for item in objects_in(entities.get("urls"))
        ),
        counts=counts_of(raw),
        author=authors.get(author_id),
    )


def counts_of(raw: Object) -> Counts:
    """Engagement of a post from its public, private and organic metrics, in either vocabulary."""
    blocks = [raw.get(name) for name in ("public_metrics", "non_public_metrics", "organic_metrics")]
    metrics: dict[str, Any] = {}
    for block in blocks:
        if isinstance(block, dict):
            metrics = {**block, **metrics}  # public numbers come first
    return Counts(
        likes=_first_count(metrics, "like_count"),
        retweets=_first_count(metrics, "retweet_count", "repost_count"),
        replies=_first_count(metrics, "reply_count"),
        quotes=_first_count(metrics, "quote_count"),
        bookmarks=_first_count(metrics, "bookmark_count"),
        impressions=_first_count(metrics, "impression_count"),
        url_link_clicks=_first_count(metrics, "url_link_clicks"),
        user_profile_clicks=_first_count(metrics, "user_profile_clicks"),
    )


def counts_by_id(body: Object) -> dict[str, Counts]:
    """Engagement of the posts of an answer, by id."""
    return {x_post_id: counts_of(raw) for raw in objects_in(body.get("data")) if (x_post_id := id_of(raw.get("id")))}


def analytics_by_id(body: Object) -> dict[str, dict[str, int]]:
    """Metrics of `/2/tweets/analytics` by post and by X's name, summed over the time stamps."""
    totals: dict[str, dict[str, int]] = {}
    for raw in objects_in(body.get("data")):
        x_post_id = id_of(raw.get("id"))
        if x_post_id is None:
            continue
        total = totals.setdefault(x_post_id, {})
        for stamped in objects_in(raw.get("timestamped_metrics")):
            for metrics in objects_in(stamped.get("metrics")):
                for name, value in metrics.items():
                    if (number := count(value)) is not None:
                        total[name] = total.get(name, 0) + number
    return totals


def next_token_of(body: Object) -> str | None:
    """The token of the page after this one; None on the last."""
    meta = body.get("meta")
    token = meta.get("next_token") if isinstance(meta, dict) else None
    return token if isinstance(token, str) and token else None


def users_in(raw: object) -> list[XUser]:
    """The profiles in a list; one without id or handle is left out."""
    return [user for item in objects_in(raw) if (user := user_of(item)) is not None]


def user_of(raw: Object) -> XUser | None:
    """One profile; None if it has no id or no handle."""
    user_id, handle = id_of(raw.get("id")), text_of(raw.get("username"))
    if user_id is None or handle is None:
        return None
    metrics = raw.get("public_metrics")
    metrics = metrics if isinstance(metrics, dict) else {}
    protected = raw.get("protected")
    return XUser(
        user_id=user_id,
        handle=handle,
        name=text_of(raw.get("name")),
        bio=text_of(raw.get("description")),
        location=text_of(raw.get("location")),
        followers=count(metrics.get("followers_count")),
        following=count(metrics.get("following_count")),
        protected=protected if isinstance(protected, bool) else None,
    )


def objects_in(raw: object) -> Iterator[Object]:
    """The objects of a list, or the one object that stands where a list was meant."""
    for item in raw if isinstance(raw, list) else [raw]:
        if isinstance(item, dict):
            yield item


def id_of(raw: object) -> str | None:
    """An X id as text; None if it is none."""
    text = str(raw) if isinstance(raw, int | str) and not isinstance(raw, bool) else ""
    return text if text.isascii() and text.isdecimal() and len(text) <= 19 else None


def text_of(raw: object) -> str | None:
    """A text with its entities unescaped; None if empty.

    JSON can hold two things that PostgreSQL cannot store: NUL is left out, half a surrogate pair becomes U+FFFD. One
    such post would have every read fail that it is part of.
    """
    if not isinstance(raw, str):
        return None
    return HALF_A_PAIR.sub("\ufffd", html.unescape(raw).replace("\x00", "")) or None


def time_of(raw: object) -> datetime | None:
    """An ISO time, with or without fractions of a second, in UTC."""
    if not isinstance(raw, str):
        return None
    try:
        at = datetime.fromisoformat(raw)
    except ValueError:
        return None
    return at.astimezone(UTC) if at.tzinfo is not None else at.replace(tzinfo=UTC)


def clock_ahead(date: str | None, asked_at: datetime, answered_at: datetime) -> timedelta | None:
    """How far the clock that wrote a Date header is ahead of ours, by which the request left and its answer came.

    0 where it may be the same: the header has whole seconds. None if there is no header, or none that can be read.
    """
    try:
        at = parsedate_to_datetime(date or "")
    except ValueError:
        return None
    at = at.astimezone(UTC) if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(timedelta(), at - answered_at) + min(timedelta(), at + timedelta(seconds=1) - asked_at)


def count(raw: object) -> int | None:
    """A count, at most what a column holds; None for what is no whole number from 0 on."""
    return min(raw, MAX_COUNT) if isinstance(raw, int) and not isinstance(raw, bool) and raw >= 0 else None


def _first_count(metrics: Object, *names: str) -> int | None:
    return next((value for name in names if (value := count(metrics.get(name))) is not None), None)


def _references(raw: Object) -> Iterator[Object]:
    yield from objects_in(raw.get("referenced_tweets") or raw.get("referenced_posts"))


def _distinct(items: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(item for item in items if item is not None))
