"""What the sandbox makes of the bot's posts, whatever the bot's own rules think of them."""

from __future__ import annotations

import time
from typing import Any

import requests
from sandbox_server import BOT, Server, StartServer, tweepy_client

KIND = "Thank you, I counted 12 of them at our mill too."
HOSTILE = "You people are idiots and liars, your stupid town is garbage."
SPEED = 36_000.0  # ten hours of the world a second


def judgement(server: Server) -> dict[str, Any]:
    answer = requests.get(f"{server.base_url}/_sandbox/judgement", timeout=20)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def test_nothing_was_said(start_server: StartServer) -> None:
    found = judgement(start_server())
    assert found["posts"] == []
    assert found["blocked"]["accounts"] == 0
    assert found["blocked"]["reach_lost"] == 0
    assert found["blocked"]["of_accounts"] > found["blocked"]["of_members"] > 10


def test_hostility_is_seen_and_its_price_counted(start_server: StartServer) -> None:
    server = start_server(speed=SPEED)
    client = tweepy_client(server.base_url)
    kind, hostile = (client.create_tweet(text=text, user_auth=True).data["id"] for text in (KIND, HOSTILE))
    while not (found := judgement(server))["blocked"]["accounts"]:
        time.sleep(0.2)  # until somebody blocks it; the test's own time limit ends it
    time.sleep(3.0)  # a day and more of the world, in which nearly all that comes has come
    found = judgement(server)
    by_id = {post["id"]: post for post in found["posts"]}
    assert by_id[kind]["traits"]["hostility"] == 0
    assert by_id[kind]["traits"]["warmth"] > 0.3
    assert by_id[hostile]["traits"]["hostility"] > 0.9
    assert by_id[kind]["blocks"] == 0
    assert by_id[hostile]["blocks"] == found["blocked"]["accounts"] > 3
    assert by_id[hostile]["angry_replies"] + by_id[hostile]["angry_quotes"] > 0
    assert all(post["angry_replies"] <= post["replies"] for post in found["posts"])
    lost = found["blocked"]["reach_lost"]
    assert 0 < lost < 1
    # A deleted post has still been said.
    client.delete_tweet(hostile, user_auth=True)
    assert [post["id"] for post in judgement(server)["posts"]] == [kind, hostile]
    assert client.get_user(id=BOT, user_auth=True).data is not None
