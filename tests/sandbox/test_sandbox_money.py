"""Limits by tier and by kind of token, the month's cap, credits and the ledger."""

from __future__ import annotations

from typing import Any

import pytest
import requests
import tweepy
from sandbox_server import BOT, SIGNED, StartServer, ToSandbox

from app.sandbox.settings import Keys


def app_only(base_url: str) -> tweepy.Client:
    """A client with the app's own bearer token."""
    client = tweepy.Client(bearer_token=Keys().bearer_token)
    client.session.mount(SIGNED, ToSandbox(base_url))
    return client


def headers(answer: requests.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if "limit" in name}


def test_each_tier_and_kind_of_token_has_its_windows(start_server: StartServer) -> None:
    server = start_server(options=("--tier", "basic"))
    client = server.client
    for left in range(4, -1, -1):
        answer = client.request("GET", f"/2/users/{BOT}/tweets", user_auth=True)
        assert answer.headers["x-rate-limit-limit"] == "5"
        assert answer.headers["x-rate-limit-remaining"] == str(left)
    with pytest.raises(tweepy.TooManyRequests):
        client.get_users_tweets(BOT, user_auth=True)
    app = app_only(server.base_url).request("GET", f"/2/users/{BOT}/tweets")
    assert app.headers["x-rate-limit-limit"] == "10", "the app's own token has a window of its own"
    told = headers(client.request("GET", "/2/users", {"ids": BOT}, user_auth=True))
    assert told["x-user-limit-24hour-limit"] == told["x-rate-limit-limit"] == "100"
    assert told["x-app-limit-24hour-remaining"] == "499"


def test_a_day_of_the_free_tier_ends_after_17_posts(start_server: StartServer) -> None:
    server = start_server(options=("--tier", "free"))
    for number in range(17):
        server.client.create_tweet(text=f"Number {number}.")
    with pytest.raises(tweepy.TooManyRequests) as caught:
        server.client.create_tweet(text="One too many.")
    told = headers(caught.value.response)
    assert told["x-user-limit-24hour-remaining"] == "0"
    assert int(told["x-user-limit-24hour-reset"]) == int(told["x-app-limit-24hour-reset"])
    assert server.control("summary")["posted"] == 17


def test_the_month_of_posts_ends_in_the_other_shape_of_429(start_server: StartServer) -> None:
    server = start_server(options=("--post-cap", "8"))
    client = server.client
    member = client.get_user(username="noctuary", user_auth=True).data
    for _ in range(2):  # the second time they are not new
        client.get_users_tweets(member.id, user_auth=True, max_results=5)
    other = client.get_user(username="mara_transit", user_auth=True).data
    client.get_users_tweets(other.id, user_auth=True, max_results=5)
    with pytest.raises(tweepy.TooManyRequests) as caught:
        client.get_users_tweets(member.id, user_auth=True)
    body = caught.value.response.json()
    assert body["type"] == "https://api.twitter.com/2/problems/usage-capped"
    assert (body["period"], body["scope"]) == ("Monthly", "Product")
    client.get_me()
    client.get_home_timeline()


def test_credits_end_and_can_be_bought(start_server: StartServer) -> None:
    server = start_server(options=("--tier", "pay-per-use", "--credits", "0.04"))
    client = server.client
    client.create_tweet(text="That is 0.015.")
    client.create_tweet(text="That is 0.030.")
    client.create_tweet(text="That is 0.045, and the end of it.")
    for attempt in (lambda: client.create_tweet(text="No."), client.get_me):
        with pytest.raises(tweepy.HTTPException) as caught:
            attempt()
        assert caught.value.response.status_code == 402
        assert caught.value.response.json()["type"].endswith("/problems/credits-depleted")
    assert server.control("ledger")["credits_left"] == pytest.approx(-0.005)
    server.kill()
    server.start()  # with the same --credits, which are not bought again
    client = server.client
    with pytest.raises(tweepy.HTTPException, match="402"):
        client.get_me()
    assert server.control("credits", {"usd": 1})["credits_left"] == pytest.approx(0.995)
    client.get_me()


def test_the_ledger_says_what_was_paid_for_what(start_server: StartServer) -> None:
    server = start_server()
    client = server.client
    member = client.get_user(username="noctuary", user_auth=True).data
    client.follow_user(member.id)
    client.create_tweet(text="Read https://example.org/swifts now.")
    client.get_users_tweets(member.id, user_auth=True, max_results=5)
    client.get_users_tweets(BOT, user_auth=True, max_results=5)
    ledger = server.control("ledger")
    rows = {(row["endpoint"], row["item"]): (row["units"], round(row["usd"], 6)) for row in ledger["rows"]}
    assert rows == {
        ("user_by_handle", "request"): (1, 0.0),
        ("user_by_handle", "user read"): (1, 0.01),
        ("follow", "request"): (1, 0.0),
        ("follow", "interaction"): (1, 0.015),
        ("create_post", "request"): (1, 0.0),
        ("create_post", "post with a link"): (1, 0.2),
        ("posts_of_user", "request"): (2, 0.0),
        ("posts_of_user", "post read"): (5, 0.025),
        ("posts_of_user", "owned read"): (1, 0.001),
    }
    assert ledger["usd"] == pytest.approx(0.251)
    assert ledger["credits_left"] is None
    assert server.control("summary")["usd"] == pytest.approx(0.251)


@pytest.mark.parametrize(
    ("fault", "status", "kind"), [("402", 402, "credits-depleted"), ("429_usage_capped", 429, "usage-capped")]
)
def test_money_runs_out_on_demand(start_server: StartServer, fault: str, status: int, kind: str) -> None:
    server = start_server()
    server.control("script", [{"fault": fault}])
    with pytest.raises(tweepy.HTTPException) as caught:
        server.client.create_tweet(text="Not made.")
    refused: Any = caught.value.response
    assert refused.status_code == status
    assert refused.json()["type"].endswith(kind)
    server.client.create_tweet(text="Made.")
    assert [row["status"] for row in server.control("record")] == [status, 201]
