"""Who asks, and what they may see: bearer tokens, protected and suspended accounts, posts that members deleted."""

from __future__ import annotations

import time
from typing import Any

import pytest
import requests
import tweepy
from oauthlib.oauth2 import OAuth2Error
from sandbox_server import BOT, SIGNED, Server, StartServer, ToSandbox

from app.sandbox.settings import Keys
from app.sandbox.tokens import SCOPES

TOKEN = f"{SIGNED}/2/oauth2/token"


def bearer(server: Server, token: str) -> tweepy.Client:
    client = tweepy.Client(bearer_token=token)
    client.session.mount(SIGNED, ToSandbox(server.base_url))
    return client


def test_the_apps_own_token_reads_what_anybody_may(server: Server) -> None:
    app = bearer(server, Keys().bearer_token)
    member = app.get_user(username="noctuary", user_fields=["connection_status", "public_metrics"]).data
    assert "connection_status" not in member.data
    made = server.client.create_tweet(text="Seen by an app.").data["id"]
    seen = app.get_tweet(made, tweet_fields=["public_metrics", "non_public_metrics"])
    assert seen.data.public_metrics is not None
    assert [error["field"] for error in seen.errors] == ["non_public_metrics"]
    app.get_users_tweets(member.id)
    app.search_recent_tweets("bread")
    with pytest.raises(tweepy.Forbidden) as caught:
        app.request("GET", f"/2/users/{BOT}/timelines/reverse_chronological")
    assert caught.value.response.json()["type"] == "https://api.twitter.com/2/problems/unsupported-authentication"
    for method, path in (("POST", "/2/tweets"), ("GET", "/2/users/me"), ("GET", f"/2/tweets/{made}/liking_users")):
        with pytest.raises(tweepy.Forbidden):
            app.request(method, path)


@pytest.mark.parametrize("token", ["wrong", "", "snäke", "sandbox-bearer-tokens"])
def test_a_wrong_token_opens_nothing(server: Server, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}".encode()}
    assert requests.get(f"{server.base_url}/2/users/{BOT}", headers=headers, timeout=20).status_code == 401


def renewer(server: Server) -> tweepy.OAuth2UserHandler:
    keys = Keys()
    handler = tweepy.OAuth2UserHandler(
        client_id=keys.client_id,
        redirect_uri="https://example.org",
        scope=SCOPES.split(),
        client_secret=keys.client_secret,
    )
    handler.mount(SIGNED, ToSandbox(server.base_url))
    return handler


def test_an_access_token_is_renewed_and_a_used_refresh_token_voids_its_family(start_server: StartServer) -> None:
    server = start_server()
    first = server.control("authorize", {})
    assert (first["token_type"], first["expires_in"]) == ("bearer", 7200)
    assert bearer(server, first["access_token"]).get_me(user_auth=False).data.username == "explorer_bot"
    handler = renewer(server)
    second = handler.refresh_token(TOKEN, refresh_token=first["refresh_token"], auth=handler.auth)
    assert second["refresh_token"] != first["refresh_token"]
    server.kill()
    server.start()
    assert bearer(server, second["access_token"]).get_me(user_auth=False).data.username == "explorer_bot"
    with pytest.raises(OAuth2Error, match="token was invalid"):
        renewer(server).refresh_token(TOKEN, refresh_token=first["refresh_token"], auth=handler.auth)
    with pytest.raises(tweepy.Unauthorized):
        bearer(server, second["access_token"]).get_me(user_auth=False)
    with pytest.raises(OAuth2Error, match="token was invalid"):
        renewer(server).refresh_token(TOKEN, refresh_token=second["refresh_token"], auth=handler.auth)
    third = server.control("authorize", {})
    bearer(server, third["access_token"]).get_me(user_auth=False)


def opens(client: tweepy.Client) -> bool:
    try:
        client.get_me(user_auth=False)
    except tweepy.Unauthorized:
        return False
    return True


def test_an_access_token_ends_after_two_hours(start_server: StartServer) -> None:
    server = start_server(speed=36_000.0)  # ten hours a second
    token = server.control("authorize", {})["access_token"]
    client = bearer(server, token)
    deadline = time.monotonic() + 10
    while opens(client):
        assert time.monotonic() < deadline, "the token never ended"
        time.sleep(0.05)


def test_a_stranger_renews_nothing(server: Server) -> None:
    first = server.control("authorize", {})
    body = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    for auth in (None, ("sandbox-client-id", "wrong")):
        answer = requests.post(f"{server.base_url}/2/oauth2/token", data=body, auth=auth, timeout=20)
        assert answer.status_code == 401
    answer = requests.post(
        f"{server.base_url}/2/oauth2/token",
        data={"grant_type": "password"},
        auth=("sandbox-client-id", "sandbox-client-secret"),
        timeout=20,
    )
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")


def errors(answer: Any) -> list[tuple[str, str]]:
    return [(error["parameter"], error["type"].rsplit("/", 1)[-1]) for error in answer.errors]


def test_a_suspended_account_and_its_posts_are_gone(start_server: StartServer) -> None:
    server = start_server()
    client = server.client
    member = client.get_user(username="noctuary", user_auth=True).data
    client.follow_user(member.id)
    posts = client.get_users_tweets(member.id, user_auth=True).data
    server.control("standing", {"handle": "noctuary", "standing": "suspended"})
    server.kill()
    server.start()
    client = server.client
    for answer in (
        client.get_user(username="noctuary", user_auth=True),
        client.get_users(usernames=["noctuary"], user_auth=True),
        client.get_user(id=member.id, user_auth=True),
        client.get_users_tweets(member.id, user_auth=True),
        client.get_users_followers(member.id, user_auth=True),
    ):
        assert answer.data is None
        assert answer.errors[0]["detail"] == f"User has been suspended: [{answer.errors[0]['value']}]."
    assert errors(client.get_tweets([posts[0].id], user_auth=True)) == [("ids", "not-authorized-for-resource")]
    assert client.get_home_timeline().data is None
    assert client.search_recent_tweets("from:noctuary", user_auth=True).data is None
    assert client.get_users_following(BOT, user_auth=True).data is None
    with pytest.raises(tweepy.Forbidden, match="deleted or not visible"):
        client.create_tweet(text="Are you there?", in_reply_to_tweet_id=posts[0].id)
    with pytest.raises(tweepy.NotFound):
        client.follow_user(member.id)
    server.control("standing", {"handle": "noctuary", "standing": "open"})
    assert client.get_home_timeline().data


def test_a_protected_account_shows_to_those_who_follow_it(start_server: StartServer) -> None:
    server = start_server()
    client = server.client
    friend, stranger = client.get_users(usernames=["noctuary", "mara_transit"], user_auth=True).data
    client.follow_user(friend.id)
    post = client.get_users_tweets(stranger.id, user_auth=True).data[0]
    for handle in ("noctuary", "mara_transit"):
        server.control("standing", {"handle": handle, "standing": "protected"})
    assert client.get_user(id=friend.id, user_auth=True, user_fields=["protected"]).data.protected is True
    assert client.get_users_tweets(friend.id, user_auth=True).data
    assert bearer(server, Keys().bearer_token).get_users_tweets(friend.id).data is None
    refused = client.get_users_tweets(stranger.id, user_auth=True)
    assert refused.data is None
    assert errors(refused) == [("id", "not-authorized-for-resource")]
    assert errors(client.get_tweet(post.id, user_auth=True)) == [("id", "not-authorized-for-resource")]
    asked = client.follow_user(stranger.id).data
    assert (asked["following"], asked["pending_follow"]) == (False, True)
    assert [user.id for user in client.get_users_following(BOT, user_auth=True).data] == [friend.id]


def test_a_member_deletes_a_post(start_server: StartServer) -> None:
    server = start_server()
    client = server.client
    member = client.get_user(username="noctuary", user_auth=True).data
    target, *rest = client.get_users_tweets(member.id, user_auth=True).data
    mine = client.create_tweet(text="How many were there?", in_reply_to_tweet_id=target.id).data["id"]
    server.control("remove", {"id": str(target.id)})
    server.kill()
    server.start()
    client = server.client
    assert errors(client.get_tweet(target.id, user_auth=True)) == [("id", "resource-not-found")]
    assert target.id not in {post.id for post in client.get_users_tweets(member.id, user_auth=True).data}
    answer = client.get_tweet(mine, user_auth=True, expansions=["referenced_tweets.id"])
    assert errors(answer) == [("referenced_tweets.id", "resource-not-found")]
    with pytest.raises(tweepy.Forbidden, match="deleted or not visible"):
        client.create_tweet(text="And now?", in_reply_to_tweet_id=target.id)
    for wrong in (mine, str(target.id), "x"):
        refused = requests.post(f"{server.base_url}/_sandbox/remove", json={"id": wrong}, timeout=20)
        assert refused.status_code == 422
    assert rest
