"""Whatever is thrown at an endpoint, it answers in X's form and never with a fault of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from requests_oauthlib import OAuth1
from sandbox_server import BOT, Server

from app.sandbox.api.endpoint import Endpoint
from app.sandbox.api.posts import ANALYTICS_FIELDS
from app.sandbox.params import make_token
from app.sandbox.server import ENDPOINTS
from app.sandbox.settings import Keys
from app.sandbox.wire import TWEET_FIELDS, USER_FIELDS

EARLY = ["2026-03-01T10:00:00Z", "2026-03-02T09:00:00.5+01:00"]
MOMENTS = ["2026-03-04T10:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59Z"]
IDS = [BOT, "0", "20", "2028999999999999999", "9999999999999999999"]
SEARCHES = [
    "bread", "-bread", '"a roof"', "from:noctuary", f"to:{BOT}", "conversation_id:1", "is:retweet", "is:quote", "(",
    ")", "OR", '"', "-(", "-", "@noctuary", "#", "#owls", "has:links", "lang:en", "to:", "from:99999999999999999999",
    "x:y",
]  # fmt: skip
GOOD: dict[str, list[str]] = {
    "ids": IDS,
    "usernames": ["noctuary", "explorer_bot", "nobody_here"],
    "exclude": ["replies", "retweets"],
    "sort_order": ["recency", "relevancy"],
    "granularity": ["hourly", "daily", "weekly", "total"],
    "analytics.fields": list(ANALYTICS_FIELDS),
    "tweet.fields": list(TWEET_FIELDS),
    "post.fields": ["referenced_posts", "public_metrics"],
    "user.fields": list(USER_FIELDS),
    "expansions": ["author_id", "referenced_tweets.id", "in_reply_to_user_id", "edit_history_tweet_ids"],
    "since_id": IDS,
    "until_id": IDS,
    "start_time": [*EARLY, *EARLY, *MOMENTS],
    "end_time": MOMENTS,
    "max_results": ["10", "10", "10", "50", "100", "5", "0", "²", "٣"],
    "pagination_token": [make_token(way, place) for way in "on" for place in (0, 7, 1 << 60, (1 << 64) - 1)],
}
REQUIRED = {"analytics": ["ids", "start_time", "end_time"], "users_by_handles": ["usernames"]}
REQUIRED |= {"posts_by_ids": ["ids"], "users_by_ids": ["ids"], "search_recent": ["query"]}


def value_of(name: str) -> st.SearchStrategy[str]:
    """Mostly what the parameter takes, and now and then anything."""
    if name == "query":
        return st.lists(st.sampled_from(SEARCHES) | st.text(max_size=8), min_size=1, max_size=6).map(" ".join)
    good = st.sampled_from(GOOD[name])
    several = name.endswith(("s", "exclude")) and name != "max_results"
    listed = st.lists(good, min_size=1, max_size=4).map(",".join) if several else good
    return st.integers(0, 9).flatmap(lambda luck: st.text(max_size=40) if luck == 0 else listed)


def queries(endpoint: Endpoint, taken: list[str]) -> st.SearchStrategy[list[tuple[str, str]]]:
    """Parameters that the endpoint takes, the required ones always; now and then others."""
    names = REQUIRED.get(endpoint.name, [])
    extra = st.lists(st.sampled_from(taken or sorted(GOOD)), max_size=4, unique=True)
    chosen = extra.map(lambda more: [*names, *(name for name in more if name not in names)])
    valued = chosen.flatmap(lambda each: st.tuples(*(st.tuples(st.just(name), value_of(name)) for name in each)))
    noise = st.lists(st.tuples(st.text(max_size=10), st.text(max_size=20)), max_size=3)
    return st.integers(0, 9).flatmap(lambda luck: noise if luck == 0 else valued.map(list))


def taken_by(server: Server, endpoint: Endpoint) -> list[str]:
    """Names of the parameters that an endpoint takes, as it tells who gives another."""
    if endpoint.method != "GET":
        return []
    path = endpoint.path.replace("{id}", BOT).replace("{username}", "noctuary")
    told = requests.get(f"{server.base_url}{path}?mood=good", auth=signed(), timeout=20).json()["errors"][0]["message"]
    return [name for name in told.partition("one of [")[2].rstrip("]").split(",") if name in GOOD]


def signed() -> OAuth1:
    keys = Keys()
    return OAuth1(keys.api_key, keys.api_secret, keys.access_token, keys.access_token_secret)


pieces = st.sampled_from(["noctuary", *IDS, *IDS]) | st.text(min_size=1, max_size=20)
ids = st.sampled_from([*IDS, "", "x", 5, None])
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300) | ids
anything = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner))
sensible = st.fixed_dictionaries(
    {"text": st.text(min_size=1, max_size=300)},
    optional={"reply": st.fixed_dictionaries({"in_reply_to_tweet_id": ids}), "quote_tweet_id": ids},
) | st.fixed_dictionaries({"target_user_id": ids})
wild = st.dictionaries(
    st.sampled_from(["text", "reply", "quote_tweet_id", "target_user_id", "poll", "nullcast"]), anything
)
HALF = json.dumps({"text": "half a pair: \ud800"}).encode()
bodies = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([b"", b"[" * 100_000, b'{"text": 1e999}', HALF, b'{"text": "\xff"}']),
    (sensible | sensible | wild | anything).map(lambda body: json.dumps(body).encode()),
)


@pytest.fixture(scope="module")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A sandbox in which a window of 15 minutes lasts 45 ms, so that no limit ends the test."""
    running = Server(tmp_path_factory.mktemp("fuzzed"), speed=20_000.0).start()
    yield running
    running.kill()


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as kept:
        yield kept


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_no_request_breaks_an_endpoint(swift: Server, session: requests.Session, endpoint: Endpoint) -> None:
    auth, taken = signed(), taken_by(swift, endpoint)

    @settings(max_examples=40)
    @given(st.data())
    def throw(data: st.DataObject) -> None:
        path = endpoint.path
        while "{" in path:
            before, _, rest = path.partition("{")
            path = before + quote(data.draw(pieces), safe="") + rest.partition("}")[2]
        body = data.draw(bodies) if endpoint.method == "POST" else None
        answer = session.request(
            endpoint.method,
            swift.base_url + path,
            params=data.draw(queries(endpoint, taken)),
            data=body,
            headers={"Content-Type": "application/json"} if body is not None else {},
            auth=auth,
            timeout=20,
        )
        assert answer.status_code < 500, answer.text
        assert isinstance(answer.json(), dict)

    throw()


@given(
    st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=60)
    | st.sampled_from(["OAuth", "Basic "])
)
def test_no_authorization_breaks_it(swift: Server, session: requests.Session, header: str) -> None:
    for scheme in ("", "OAuth ", 'OAuth oauth_consumer_key="', "Bearer ", "Basic "):
        headers = {"Authorization": (scheme + header).strip().encode("latin-1")}
        for method, path in (("GET", "/2/users/me"), ("POST", "/2/oauth2/token")):
            answer = session.request(method, swift.base_url + path, headers=headers, timeout=20)
            assert answer.status_code in {400, 401}, answer.text
            assert isinstance(answer.json(), dict)


def test_what_was_thrown_is_in_the_record(swift: Server) -> None:
    record: list[dict[str, Any]] = swift.control("record")
    assert {row["kind"] for row in record} >= {"delete", "follow", "unfollow"}
    assert swift.control("summary")["duplicates"] == 0
