"""Tiers, limits, money, faults, and what outlives a kill."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
import requests
import tweepy
from sandbox_server import BOT, SIGNED, StartServer

from app.sandbox.posts import moment_of

QUESTION = "https://api.x.com/2/problems/not-authorized-for-resource"


def test_self_serve_tiers_refuse_unsummoned_replies_quotes_and_follows(start_server: StartServer) -> None:
    server = start_server(options=("--tier", "pay-per-use"))
    client = server.client
    member = client.get_user(username="noctuary", user_auth=True).data
    read = client.get_users_tweets(member.id, user_auth=True).data
    post = read[0]
    for attempt in (
        lambda: client.create_tweet(text="Good count!", in_reply_to_tweet_id=post.id),
        lambda: client.create_tweet(text="Good count!", quote_tweet_id=post.id),
        lambda: client.follow_user(member.id),
    ):
        with pytest.raises(tweepy.Forbidden) as caught:
            attempt()
        assert caught.value.response.json()["type"] == QUESTION
    own = client.create_tweet(text="A thread on swifts.")
    client.create_tweet(text="And its second part.", in_reply_to_tweet_id=own.data["id"])
    mentions = client.get_users_mentions(BOT, user_auth=True).data
    client.create_tweet(text="Thank you for asking.", in_reply_to_tweet_id=mentions[0].id)
    usd = server.control("summary")["usd"]
    owned = {post.id for post in mentions} - {post.id for post in read}
    reads = 0.010 + len(read) * 0.005 + len(owned) * 0.001
    assert usd == pytest.approx(reads + 0.015 + 0.010 + 0.010, abs=1e-6)


def test_a_window_closes_opens_again_and_says_when(start_server: StartServer) -> None:
    server = start_server(speed=100.0)
    client = server.client
    url = f"{SIGNED}/2/users/me"
    first = client.request("GET", "/2/users/me", user_auth=True)
    assert first.headers["x-rate-limit-limit"] == "75"
    assert first.headers["x-rate-limit-remaining"] == "74"
    for _ in range(74):
        last = client.request("GET", "/2/users/me", user_auth=True)
    assert last.headers["x-rate-limit-remaining"] == "0"
    with pytest.raises(tweepy.TooManyRequests) as caught:
        client.request("GET", "/2/users/me", user_auth=True)
    refused = caught.value.response
    assert refused.url.endswith(url.removeprefix(SIGNED))
    assert refused.json()["errors"][0]["code"] == 88
    opens = datetime.fromtimestamp(int(refused.headers["x-rate-limit-reset"]), UTC)
    now = datetime.fromisoformat(server.control("health")["world_time"])
    assert 0 < (opens - now).total_seconds() <= 15 * 60
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if datetime.fromisoformat(server.control("health")["world_time"]) > opens:
            break
        time.sleep(0.1)
    assert client.get_me().data.username == "explorer_bot"


def test_posting_has_daily_headers(start_server: StartServer) -> None:
    answer = start_server().client.request("POST", "/2/tweets", json={"text": "One of ten thousand."}, user_auth=True)
    assert answer.headers["x-app-limit-24hour-limit"] == "10000"
    assert answer.headers["x-user-limit-24hour-remaining"] == "9999"


def test_the_same_post_read_twice_on_a_day_is_paid_once(start_server: StartServer) -> None:
    server = start_server(speed=1.0)
    client = server.client
    member = client.get_user(username="noctuary", user_auth=True).data
    for _ in range(3):
        client.get_users_tweets(member.id, user_auth=True, max_results=5)
    assert server.control("summary")["usd"] == pytest.approx(0.010 + 5 * 0.005)


def test_a_killed_sandbox_forgets_nothing(start_server: StartServer) -> None:
    server = start_server(speed=1800.0)
    client = server.client
    members = client.get_users(usernames=["noctuary", "wordhoard"], user_auth=True).data
    for member in members:
        client.follow_user(member.id)
    target = client.get_home_timeline(max_results=10).data[0]
    made = [
        client.create_tweet(text="I saw 12 owls in the barn on Mill Road, because the roof was left alone."),
        client.create_tweet(text="Thanks, how many did you count at dawn?", in_reply_to_tweet_id=target.id),
        client.create_tweet(text="This one goes away."),
    ]
    ids = [post.data["id"] for post in made]
    client.delete_tweet(ids[2])
    time.sleep(4)
    fields = {"tweet_fields": ["public_metrics", "conversation_id"], "user_auth": True}
    before = client.get_tweets(ids[:2], **fields).data
    record, home = server.control("record"), client.get_home_timeline(max_results=50).data
    answers = client.search_recent_tweets(f"conversation_id:{ids[0]}", user_auth=True).data or []
    remaining = client.request("GET", "/2/users/me", user_auth=True).headers["x-rate-limit-remaining"]
    server.kill()
    server.start()
    client = server.client
    after = client.get_tweets(ids[:2], **fields).data
    for old, new in zip(before, after, strict=True):
        assert (old.text, old.conversation_id) == (new.text, new.conversation_id)
        assert all(old.public_metrics[name] <= new.public_metrics[name] for name in old.public_metrics)
    assert server.control("record") == record
    assert client.get_tweets([ids[2]], user_auth=True).data is None
    assert {user.id for user in client.get_users_following(BOT, user_auth=True).data} == {m.id for m in members}
    # A page with bounds: the world has gone on meanwhile.
    again = client.get_home_timeline(max_results=50, until_id=home[0].id + 1).data
    assert [(post.id, post.text) for post in again] == [(post.id, post.text) for post in home]
    assert {a.id for a in answers} <= {
        a.id
        for a in client.search_recent_tweets(f"conversation_id:{ids[0]}", user_auth=True, max_results=100).data or []
    }
    kept = client.request("GET", "/2/users/me", user_auth=True).headers["x-rate-limit-remaining"]
    assert int(kept) in {int(remaining) - 1, 74}, "the window goes on, unless it has ended meanwhile"


def test_a_state_made_with_another_seed_is_refused(start_server: StartServer) -> None:
    server = start_server()
    server.kill()
    server.options = ("--seed", "2")
    with pytest.raises(AssertionError, match="ended before it listened"):
        server.start()


def test_faults_before_and_after_the_effect(start_server: StartServer) -> None:
    server = start_server()
    client = server.client
    for fault, error in (
        ("500", tweepy.TwitterServerError),
        ("503", tweepy.TwitterServerError),
        ("reset_before", requests.ConnectionError),
        ("429_no_reset", tweepy.TooManyRequests),
    ):
        server.control("faults", [{"fault": fault, "count": 1, "method": "POST", "path": "/2/tweets"}])
        with pytest.raises(error) as caught:
            client.create_tweet(text=f"Lost to {fault}.")
        if fault == "429_no_reset":
            assert "x-rate-limit-reset" not in caught.value.response.headers
    assert client.get_users_tweets(BOT, user_auth=True).data is None
    for fault, error in (("reset_after", requests.ConnectionError), ("503_after", tweepy.TwitterServerError)):
        server.control("faults", [{"fault": fault, "count": 1}])
        with pytest.raises(error):
            client.create_tweet(text=f"It stands, said {fault}.")
    assert len(client.get_users_tweets(BOT, user_auth=True).data) == 2
    record = server.control("record")
    assert [bool(row["id"]) for row in record] == [False, False, False, False, True, True]
    assert [row["status"] for row in record] == [500, 503, 0, 429, 201, 201]
    summary = server.control("summary")
    assert (summary["posted"], summary["duplicates"]) == (2, 0)


def test_faults_of_reading(start_server: StartServer) -> None:
    server = start_server()
    client = server.client
    made = client.create_tweet(text="Seen late.").data["id"]
    server.control("faults", [{"fault": "lagging_timeline", "seconds": 3600}])
    assert client.get_users_tweets(BOT, user_auth=True).data is None
    server.control("faults", [{"fault": "missing_metrics"}])
    post = client.get_tweet(made, user_auth=True, tweet_fields=["public_metrics", "author_id"]).data
    assert post.author_id
    assert post.public_metrics is None
    server.control("faults", [{"fault": "malformed_json", "count": 1}])
    with pytest.raises(requests.JSONDecodeError):
        client.get_tweet(made, user_auth=True)
    server.control("faults", [{"fault": "latency", "seconds": 0.6, "count": 1}])
    started = time.monotonic()
    assert client.get_users_tweets(BOT, user_auth=True).data[0].id == int(made)
    assert time.monotonic() - started > 0.6
    server.control("faults", [{"fault": "500", "rate": 0.5}])
    outcomes = []
    for _ in range(40):
        try:
            client.get_tweet(made, user_auth=True)
            outcomes.append(True)
        except tweepy.TwitterServerError:
            outcomes.append(False)
    assert 8 < sum(outcomes) < 32
    server.control("faults", [])
    client.get_tweet(made, user_auth=True)


def test_the_record_and_a_planted_duplicate(start_server: StartServer) -> None:
    server = start_server()
    client = server.client
    refused = requests.post(f"{server.base_url}/_sandbox/plant-duplicate", timeout=20)
    assert refused.status_code == 409
    member = client.get_user(username="noctuary", user_auth=True).data
    client.follow_user(member.id)
    post = client.get_home_timeline(max_results=5).data[0]
    made = client.create_tweet(text="How many were there?", in_reply_to_tweet_id=post.id).data["id"]
    follow, reply = server.control("record")
    assert (follow["kind"], follow["target"]) == ("follow", str(member.id))
    assert reply["text"] == "How many were there?"
    assert (reply["kind"], reply["target"], reply["id"], reply["status"]) == ("reply", str(post.id), made, 201)
    summary = server.control("summary")
    assert (summary["posted"], summary["duplicates"]) == (1, 0)
    assert summary["bot_posts"][0]["id"] == made
    assert moment_of(int(made)) <= datetime.fromisoformat(summary["world_time"])
    server.control("plant-duplicate", {})
    summary = server.control("summary")
    assert (summary["posted"], summary["duplicates"]) == (2, 1)


def test_the_control_api_says_what_is_wrong(start_server: StartServer) -> None:
    server = start_server()
    for path, body, message in (
        ("truth", [{"text": "Ash.", "topic": "moons"}], "got 'moons'; topics are"),
        ("truth", [{"text": "Ash.", "kind": "reply"}], "a reply needs reply_to or parent_text"),
        ("truth", [{"text": "Ash.", "reply_to": "20"}], "there is no post '20'"),
        ("faults", [{"fault": "500", "path": "("}], "is no regular expression"),
        ("faults", [{"fault": "teapot"}], "teapot"),
    ):
        answer = requests.post(f"{server.base_url}/_sandbox/{path}", json=body, timeout=20)
        assert answer.status_code == 422
        assert message in answer.text
    members = server.control("members")
    assert len(members) >= 24
    assert all(member["handle"] and member["followers"] > 0 for member in members)
    topics = server.control("topics?examples=2")
    assert {topic["name"] for topic in topics["training"]}.isdisjoint(topic["name"] for topic in topics["held_out"])
    drafts = [
        {"text": example, "kind": "reply", "parent_text": topic["examples"][0], "topic": topic["name"]}
        for topic in topics["held_out"]
        for example in topic["examples"]
    ]
    truths = server.control("truth", drafts)
    assert len(truths) == len(drafts)
    assert all(0 <= truth["engagement"] < 60 for truth in truths)


def test_the_page_shows_the_community_and_escapes_it(start_server: StartServer) -> None:
    server = start_server()
    server.client.create_tweet(text="<script>alert(1)</script> is not a post.")
    page = requests.get(server.base_url, timeout=20).text
    assert "The Long Table" in page
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
