"""Every endpoint, driven by tweepy over HTTP."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

import pytest
import requests
import tweepy
from sandbox_server import BOT, Server, StartServer, tweepy_client
from sandbox_session import HANDLES, drive

from app.sandbox.posts import moment_of
from app.sandbox.settings import Keys


@pytest.fixture(scope="module")
def session(server: Server) -> dict[str, Any]:
    now = datetime.fromisoformat(server.control("health")["world_time"])
    return drive(server.client, BOT, now)


def test_accounts_are_looked_up_by_handle_and_id(session: dict[str, Any]) -> None:
    assert session["me"].data.username == "explorer_bot"
    assert [user.username for user in session["by_handles"].data] == HANDLES[:-1]
    [missing] = session["by_handles"].errors
    assert missing["value"] == "nobody_here"
    assert missing["type"].endswith("/resource-not-found")
    assert session["by_handle"].data.username == "noctuary"
    assert session["by_id"].data.id == session["by_handles"].data[0].id
    assert [error["value"] for error in session["by_ids"].errors] == ["7"]
    assert session["by_handles"].includes["tweets"], "most_recent_tweet_id was expanded"


def test_follows_are_kept_and_counted(session: dict[str, Any]) -> None:
    assert all(answer.data["following"] for answer in session["follow"])
    assert session["unfollow"].data["following"] is False
    followed = {user.username for user in session["following"].data}
    assert followed == set(HANDLES[:-2])
    first = session["following"].data[-1]
    assert "following" in first.data["connection_status"]
    followers = session["followers"]
    assert len(followers.data) == followers.meta["result_count"] == 50
    assert followers.data[0].username == "explorer_bot"
    assert first.public_metrics["followers_count"] > 50


def test_home_shows_what_followed_members_posted_newest_first(session: dict[str, Any]) -> None:
    home = session["home"].data
    ids = [post.id for post in home]
    assert ids == sorted(ids, reverse=True)
    assert len(ids) == session["home"].meta["result_count"] == 50
    authors = {user.username for user in session["home"].includes["users"]}
    assert set(HANDLES[:-2]) <= authors
    followed = {user.id for user in session["following"].data}
    assert {post.author_id for post in home} <= followed
    assert max(post.id for post in session["home_2"].data) < min(ids)
    assert all(post.id > ids[0] for post in session["home_new"].data or [])
    kinds = {ref.type for post in session["home_quiet"].data for ref in post.referenced_tweets or []}
    assert not kinds & {"replied_to", "retweeted"}
    for post in home:
        assert post.created_at == moment_of(post.id), "the id says when the post was made"


def test_posts_of_a_member_page_and_span(session: dict[str, Any]) -> None:
    first, second = session["posts"].data, session["posts_2"].data
    assert not {post.id for post in first} & {post.id for post in second}
    assert session["posts_2"].meta["previous_token"]
    times = [post.created_at for post in session["span"].data]
    assert max(times) - min(times) <= timedelta(hours=6)


def test_mentions_and_search_find_what_they_should(session: dict[str, Any]) -> None:
    assert all("@explorer_bot" in post.text for post in session["mentions"].data)
    texts = [post.text.lower() for post in session["searched"].data]
    assert texts
    assert all("bread" in text and not text.startswith("rt ") for text in texts)
    assert {post.conversation_id for post in session["conversation"].data} == {session["target"].conversation_id}


def test_what_the_bot_wrote_comes_back_as_x_shows_it(session: dict[str, Any]) -> None:
    posted, replied, quoted, target = session["looked_up"].data
    assert posted.text.endswith("off &amp; dark.")
    author = next(u for u in session["home"].includes["users"] if u.id == target.author_id)
    assert replied.text.startswith(f"@{author.username} Thanks")
    assert replied.text[replied.data["display_text_range"][0] :].startswith("Thanks")
    assert replied.in_reply_to_user_id == target.author_id
    assert replied.conversation_id == target.conversation_id
    [reference] = replied.referenced_tweets
    assert (reference.type, reference.id) == ("replied_to", target.id)
    assert quoted.referenced_tweets[0].type == "quoted"
    [link] = quoted.entities["urls"]
    assert link["url"] in quoted.text
    assert link["expanded_url"] == "https://example.org/a?b=c#d"
    assert [error["value"] for error in session["looked_up"].errors if "resource-not-found" in error["type"]] == ["20"]
    assert session["one"].data.id == replied.id
    assert session["missing"].data is None
    assert session["missing"].errors


def test_private_metrics_are_for_own_posts_only(session: dict[str, Any]) -> None:
    *own, target = session["looked_up"].data
    assert all("impression_count" in post.non_public_metrics for post in own)
    assert target.non_public_metrics is None
    refused = {error["field"] for error in session["looked_up"].errors if "field" in error}
    assert refused == {"non_public_metrics", "organic_metrics"}


def test_lists_are_as_long_as_the_counts(server: Server, session: dict[str, Any]) -> None:
    client, checked = server.client, 0
    home = [*session["home"].data, *session["home_2"].data]
    for post in sorted(home, key=lambda post: -post.public_metrics["like_count"])[:8]:
        likers = client.get_liking_users(post.id, user_auth=True).data or []
        now = client.get_tweet(post.id, user_auth=True, tweet_fields=["public_metrics"]).data.public_metrics
        assert post.public_metrics["like_count"] <= len(likers) <= now["like_count"]
        assert now["impression_count"] >= now["like_count"] + now["retweet_count"]
        checked += len(likers)
    assert checked > 10


def test_quotes_replies_and_deletion(session: dict[str, Any]) -> None:
    assert int(session["quoted"].data["id"]) in {post.id for post in session["quotes"].data}
    assert session["deleted"].data["deleted"] is True
    assert session["gone"].data is None
    assert session["gone"].errors[0]["type"].endswith("/resource-not-found")


def test_analytics_has_a_row_an_hour_for_own_posts(session: dict[str, Any]) -> None:
    body = session["analytics"].json()
    [row] = body["data"]
    assert row["id"] == session["posted"].data["id"]
    assert {"impressions", "likes", "retweets"} <= row["timestamped_metrics"][0]["metrics"].keys()
    assert [error["value"] for error in body["errors"]] == ["20"]


def test_counts_grow_with_age_and_never_fall(start_server: StartServer) -> None:
    server = start_server(speed=3600.0)
    client = server.client
    made = client.create_tweet(text="I counted 37 swifts at the mill because the roof is new. It was 12 last year.")
    seen = []
    for _ in range(8):
        post = client.get_tweet(made.data["id"], user_auth=True, tweet_fields=["public_metrics"]).data
        seen.append(post.public_metrics)
        time.sleep(0.5)
    views = [counts["impression_count"] for counts in seen]
    assert views == sorted(views)
    assert views[-1] > views[0]
    for name in ("like_count", "retweet_count", "reply_count", "quote_count"):
        values = [counts[name] for counts in seen]
        assert values == sorted(values)


def test_rules_that_the_description_leaves_out(server: Server, session: dict[str, Any]) -> None:
    client = server.client
    with pytest.raises(tweepy.BadRequest, match="too long"):
        client.create_tweet(text="word " * 80)
    client.create_tweet(text="漢" * 140)
    with pytest.raises(tweepy.BadRequest, match="too long"):
        client.create_tweet(text="漢" * 141)
    text = "The same words twice are one post too many."
    client.create_tweet(text=text)
    with pytest.raises(
        tweepy.Forbidden, match="You are not allowed to create a Tweet with duplicate content"
    ) as caught:
        client.create_tweet(text=text)
    assert caught.value.response.json() == {
        "detail": "You are not allowed to create a Tweet with duplicate content.",
        "type": "about:blank",
        "title": "Forbidden",
        "status": 403,
    }
    for gone in (20, int(session["quoted"].data["id"])):
        with pytest.raises(tweepy.Forbidden, match="deleted or not visible"):
            client.create_tweet(text="Is anybody there?", in_reply_to_tweet_id=gone)
    with pytest.raises(tweepy.Forbidden, match="not authorized to delete"):
        client.delete_tweet(session["target"].id)
    with pytest.raises(tweepy.NotFound):
        client.delete_tweet(20)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/2/tweets?ids=1&tweet.fields=mood", "tweet.fields"),
        ("/2/users/me?user.fields=mood", "user.fields"),
        ("/2/users/me?mood=1", "mood"),
        ("/2/users/1000001/tweets?max_results=4", "max_results"),
        ("/2/users/1000001/mentions?since_id=x", "since_id"),
        ("/2/users/1000001/timelines/reverse_chronological?pagination_token=zzz", "pagination_token"),
        ("/2/users/7/timelines/reverse_chronological", "id"),
        ("/2/tweets?ids=" + ",".join(map(str, range(1, 102))), "ids"),
        ("/2/tweets/search/recent?query=-is:retweet", "query"),
        ("/2/tweets/search/recent?query=mood:good", "query"),
        ("/2/tweets/search/recent?query=(bread", "query"),
        ("/2/users/by?usernames=no-such-handle-at-all", "usernames"),
    ],
)
def test_wrong_parameters_are_named(server: Server, path: str, name: str) -> None:
    from requests_oauthlib import OAuth1  # signs a request that tweepy would not make

    keys = Keys()
    auth = OAuth1(keys.api_key, keys.api_secret, keys.access_token, keys.access_token_secret)
    answer = requests.get(server.base_url + path, auth=auth, timeout=20)
    assert answer.status_code == 400
    body = answer.json()
    assert body["type"] == "https://api.twitter.com/2/problems/invalid-request"
    assert any(name in error["parameters"] for error in body["errors"])


@pytest.mark.parametrize("field", ["api_key", "api_secret", "access_token", "access_token_secret"])
def test_a_wrong_key_is_refused(server: Server, field: str) -> None:
    wrong = Keys(**{**vars(Keys()), field: "1000001-wrong"})
    with pytest.raises(tweepy.Unauthorized) as caught:
        tweepy_client(server.base_url, wrong).get_me()
    assert caught.value.response.json()["title"] == "Unauthorized"
    assert requests.get(f"{server.base_url}/2/users/me", timeout=20).status_code == 401


def test_a_changed_request_breaks_its_signature(server: Server) -> None:
    client = server.client
    signed = client.session.prepare_request(
        requests.Request("GET", "https://api.twitter.com/2/users/by?usernames=noctuary")
    )
    from requests_oauthlib import OAuth1  # the signature is made for one query and sent with another

    keys = Keys()
    signed = OAuth1(keys.api_key, keys.api_secret, keys.access_token, keys.access_token_secret)(signed)
    assert client.session.send(signed).status_code == 200
    signed.url = signed.url.replace("noctuary", "mara_transit")
    assert client.session.send(signed).status_code == 401
