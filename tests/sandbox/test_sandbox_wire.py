"""Parameters: both vocabularies, pages in both directions, times and ids that bound a list."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
import requests
import tweepy
from hypothesis import given
from hypothesis import strategies as st
from requests_oauthlib import OAuth1
from sandbox_server import Server, StartServer

from app.sandbox.paging import NEWER, OLDER, page_of_posts
from app.sandbox.posts import Post, moment_of
from app.sandbox.settings import Keys

OWN, SEARCH = "/2/users/1000001/tweets", "/2/tweets/search/recent"


def get(server: Server, path: str, **query: object) -> requests.Response:
    """A request that tweepy would not make."""
    keys = Keys()
    auth = OAuth1(keys.api_key, keys.api_secret, keys.access_token, keys.access_token_secret)
    params = {name.replace("__", "."): str(value) for name, value in query.items()}
    return requests.get(f"{server.base_url}{path}", params=params, auth=auth, timeout=20)


def now_of(server: Server) -> datetime:
    return datetime.fromisoformat(server.control("health")["world_time"])


@pytest.fixture(scope="module")
def member(server: Server) -> tweepy.User:
    return server.client.get_user(username="noctuary", user_auth=True).data


def with_references(body: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [post for post in body["data"] if name in post]


def test_both_vocabularies_ask_and_are_answered(server: Server, member: tweepy.User) -> None:
    path = f"/2/users/{member.id}/tweets"
    old = get(
        server,
        path,
        max_results=100,
        tweet__fields="public_metrics,referenced_tweets",
        expansions="referenced_tweets.id",
    ).json()
    new = get(
        server, path, max_results=100, post__fields="public_metrics,referenced_posts", expansions="referenced_posts.id"
    ).json()
    assert with_references(old, "referenced_tweets")
    assert not with_references(old, "referenced_posts")
    [*referring] = with_references(new, "referenced_posts")
    assert [post["referenced_posts"] for post in referring] == [
        post["referenced_tweets"] for post in with_references(old, "referenced_tweets")
    ]
    assert all("repost_count" in post["public_metrics"] for post in new["data"])
    assert not any("retweet_count" in post["public_metrics"] for post in new["data"])
    assert len(new["includes"]["tweets"]) == len(old["includes"]["tweets"]) > 0
    wrong = get(server, path, post__fields="mood")
    assert wrong.status_code == 400
    assert list(wrong.json()["errors"][0]["parameters"]) == ["post.fields"]


def test_a_sandbox_can_answer_in_the_newer_words_whatever_was_asked(start_server: StartServer) -> None:
    server = start_server(options=("--vocabulary", "post"))
    made = server.client.create_tweet(text="In other words.").data["id"]
    post = get(server, f"/2/tweets/{made}", tweet__fields="public_metrics").json()["data"]
    assert post["public_metrics"]["repost_count"] == 0


def test_pages_lead_back_to_where_they_came_from(server: Server, member: tweepy.User) -> None:
    bound = {"until_id": server.client.get_users_tweets(member.id, user_auth=True).data[0].id}
    for path, query in (
        (f"/2/users/{member.id}/tweets", {"max_results": 5, **bound}),
        (f"/2/users/{member.id}/followers", {"max_results": 7}),
    ):
        pages, meta = [], {"next_token": ""}
        for _ in range(3):
            token = {"pagination_token": meta["next_token"]} if meta["next_token"] else {}
            body = get(server, path, **query, **token).json()
            pages.append([item["id"] for item in body["data"]])
            meta = body["meta"]
        assert len({item for page in pages for item in page}) == sum(map(len, pages))
        back = get(server, path, **query, pagination_token=meta["previous_token"]).json()
        assert [item["id"] for item in back["data"]] == pages[1]
        first = get(server, path, **query, pagination_token=back["meta"]["previous_token"]).json()
        assert [item["id"] for item in first["data"]] == pages[0]
        assert "previous_token" not in first["meta"]


def test_times_and_ids_bound_a_list_and_ids_take_precedence(server: Server, member: tweepy.User) -> None:
    client = server.client
    posts = client.get_users_tweets(member.id, user_auth=True, max_results=10, tweet_fields=["created_at"]).data
    middle, last = posts[4], posts[9]
    since = client.get_users_tweets(member.id, user_auth=True, max_results=100, since_id=last.id).data
    assert last.id not in {post.id for post in since}
    assert {post.id for post in posts[:9]} <= {post.id for post in since}
    until = client.get_users_tweets(member.id, user_auth=True, until_id=middle.id).data
    assert until[0].id == posts[5].id
    span = client.get_users_tweets(
        member.id,
        user_auth=True,
        start_time=moment_of(last.id).replace(microsecond=0),
        end_time=moment_of(middle.id).replace(microsecond=0),
    ).data
    assert {post.id for post in posts[6:10]} <= {post.id for post in span}
    assert middle.id not in {post.id for post in span}
    both = client.get_users_tweets(
        member.id, user_auth=True, until_id=middle.id, end_time=moment_of(last.id).replace(microsecond=0)
    ).data
    assert both[0].id == posts[5].id


@pytest.mark.parametrize(
    ("path", "query", "name"),
    [
        (OWN, {"start_time": "2026-03-02T00:00:00Z", "end_time": "2026-03-01T00:00:00Z"}, "start_time"),
        (OWN, {"start_time": "yesterday"}, "start_time"),
        (OWN, {"end_time": "9999-12-31T23:59:59-12:00"}, "end_time"),
        (OWN, {"max_results": "9" * 5000}, "max_results"),
        (SEARCH, {"query": "bread", "start_time": "2026-01-01T00:00:00Z"}, "start_time"),
        (SEARCH, {"query": "bread", "end_time": "2030-01-01T00:00:00Z"}, "end_time"),
        (SEARCH, {"query": "bread", "since_id": "1"}, "since_id"),
        (SEARCH, {"query": "bread " * 700}, "query"),
    ],
)  # fmt: skip
def test_what_bounds_nothing_is_named(server: Server, path: str, query: dict[str, str], name: str) -> None:
    answer = get(server, path, **query)
    assert answer.status_code == 400
    assert [list(error["parameters"]) for error in answer.json()["errors"]] == [[name]]


def test_search_is_bounded_too(server: Server) -> None:
    now = now_of(server)
    found = server.client.search_recent_tweets(
        "-is:retweet lang:en (the OR a)",
        user_auth=True,
        max_results=50,
        start_time=now - timedelta(hours=6),
        end_time=now - timedelta(hours=2),
    ).data
    assert found
    assert all(now - timedelta(hours=6.01) <= moment_of(post.id) <= now - timedelta(hours=1.9) for post in found)


@given(st.integers(0, 40), st.integers(1, 12), st.data())
def test_a_page_looks_at_no_more_than_it_needs_and_misses_nothing(count: int, size: int, data: st.DataObject) -> None:
    posts = [Post(id=10 * number, author=1, text="") for number in range(count, 0, -1)]
    place = data.draw(st.integers(0, 10 * count + 5))
    token = data.draw(st.sampled_from([None, (OLDER, place), (NEWER, place)]))
    left = iter(posts)
    shown, meta = page_of_posts(left, size, token)
    start = 0
    if token is not None:
        newer = [post for post in posts if post.id > place]
        start = len([post for post in posts if post.id >= place]) if token[0] == OLDER else max(0, len(newer) - size)
    assert shown == posts[start : start + size]
    assert ("next_token" in meta) is (bool(shown) and start + size < count)
    assert ("previous_token" in meta) is (bool(shown) and start > 0)
    looked_at = count - len(list(left))
    assert looked_at <= start + 2 * size + 1
