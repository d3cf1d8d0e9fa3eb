"""State: nothing that was answered is lost to a kill, and the order of requests changes nothing of the community."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from sandbox_server import BOT, WORLD, Server, StartServer

from app.clock import WorldClock

SLOW = 1e-6  # so slow that nothing becomes due while a test asks
TEXTS = [
    "I counted 41 swifts over the mill, because the lights were off. How many did you see?",
    "Thank you for the bread. We baked 12 loaves, and the kelp one went first.",
    "Everything is connected to everything in some way.",
]


def later(server: Server, by: timedelta) -> None:
    """Stop it the hard way, and start it at another time of its world."""
    server.kill()
    server.clock = WorldClock(datetime.now(UTC), WORLD + by, SLOW).setting()
    server.start()


def test_what_was_answered_outlives_a_kill_in_the_middle(start_server: StartServer) -> None:
    server, answered = start_server(speed=1.0), []

    def write(client: Any, first: int) -> None:
        try:
            for number in range(first, first + 10_000):
                answered.append(client.create_tweet(text=f"Number {number} of many.").data["id"])
        except requests.RequestException:
            return  # killed

    for turn in range(4):
        writer = threading.Thread(target=write, args=(server.client, turn * 10_000))
        writer.start()
        deadline = time.monotonic() + 20
        while len(answered) < 15 * (turn + 1):
            assert time.monotonic() < deadline, "it does not write"
            time.sleep(0.002)
        server.kill()
        writer.join(10)
        server.start()
    made = [row["id"] for row in server.control("record") if row["status"] == 201]
    shown = {post["id"] for post in server.control("summary")["bot_posts"]}
    assert set(made) == shown, "a post is there with its record, or not at all"
    assert set(answered) <= shown
    assert len(shown) - len(answered) <= 4, "no more than the one on its way at each kill"
    assert str(server.client.get_tweet(made[0], user_auth=True).data.id) == made[0]


def questions(server: Server) -> list[Callable[[], Any]]:
    client, fields = server.client, {"tweet_fields": ["public_metrics"], "user_auth": True, "max_results": 50}
    users = client.get_users(usernames=["noctuary", "mara_transit", "wordhoard"], user_auth=True).data
    return [
        *(lambda user=user: client.get_users_tweets(user.id, **fields) for user in users),
        *(lambda user=user: client.get_users_followers(user.id, user_auth=True) for user in users),
        lambda: client.search_recent_tweets("bread -is:retweet", **fields),
        lambda: client.get_users_mentions(BOT, **fields),
    ]


def seen(answer: Any) -> list[Any]:
    return [item.data for item in answer.data or []]


def test_the_same_seed_gives_the_same_community_whatever_is_asked_in_whatever_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, earned, servers = [], [], []
    for order in (1, 2):
        monkeypatch.setenv("PYTHONHASHSEED", str(order))  # sets come in another order too
        server = Server(tmp_path / str(order), speed=SLOW).start()
        servers.append(server)
        chance = random.Random(order)
        numbered = list(enumerate(questions(server)))
        chance.shuffle(numbered)
        answers = {number: seen(ask()) for number, ask in numbered[: order * 4]}
        for text in TEXTS:
            server.client.create_tweet(text=text)
            answers |= {number: seen(ask()) for number, ask in numbered}
            chance.shuffle(numbered)
        told.append(answers)
    for server in servers:
        later(server, timedelta(hours=30))
        posts = server.control("summary")["bot_posts"]
        earned.append(
            [{name: post[name] for name in ("text", "likes", "reposts", "replies", "quotes")} for post in posts]
        )
        server.kill()
    assert told[0] == told[1]
    assert earned[0] == earned[1]
    assert sum(post["likes"] for post in earned[0]) > 0


def test_a_copy_of_the_state_is_the_same_world(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(speed=SLOW)
    member = server.client.get_user(username="noctuary", user_auth=True).data
    server.client.follow_user(member.id)
    server.client.create_tweet(text=TEXTS[0])
    server.control("standing", {"handle": "mara_transit", "standing": "protected"})
    token = server.control("authorize", {})["access_token"]
    later(server, timedelta(minutes=50))
    before = [server.control(path) for path in ("summary", "record", "ledger")]
    server.kill()
    shutil.copytree(server.state, tmp_path / "copy")
    copied = Server(tmp_path / "copy", clock=server.clock).start()
    try:
        after = [copied.control(path) for path in ("summary", "record", "ledger")]
        for told in (before[0], after[0]):
            told.pop("world_time")
        assert after == before
        headers = {"Authorization": f"Bearer {token}"}
        own = requests.get(f"{copied.base_url}/2/users/{BOT}/following", headers=headers, timeout=20)
        assert [user["id"] for user in own.json()["data"]] == [str(member.id)]
    finally:
        copied.kill()


@pytest.mark.parametrize("option", ["--seed=2", "--bot-id=7", "--bot-handle=other"])
def test_a_state_of_another_world_is_refused(start_server: StartServer, option: str) -> None:
    server = start_server()
    server.kill()
    server.options = (option,)
    with pytest.raises(AssertionError, match="ended before it listened"):
        server.start()


def test_many_who_ask_at_once_do_not_get_into_each_others_way(start_server: StartServer) -> None:
    server = start_server(speed=20_000.0)
    failed: list[str] = []
    until = time.monotonic() + 3

    def repeat(number: int, act: Callable[[], Any]) -> None:
        while time.monotonic() < until and not failed:
            try:
                act()
            except Exception as error:  # noqa: BLE001 - whatever it is, the test names it
                failed.append(f"{number}: {error!r}")

    acts: list[Callable[[], Any]] = [
        lambda: server.control("health"),
        lambda: server.control("summary"),
        lambda: server.control("credits", {"usd": 1}),
        lambda: server.control("standing", {"handle": "noctuary", "standing": "protected"}),
        lambda: requests.get(server.base_url, timeout=20).raise_for_status(),
        lambda: server.client.create_tweet(text=f"At {time.monotonic_ns()}."),
        lambda: server.client.get_users_mentions(BOT, user_auth=True),
    ]
    threads = [threading.Thread(target=repeat, args=given) for given in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
