"""Faults on demand, as a client over HTTP meets them: by script, by rate and by distribution."""

from __future__ import annotations

import statistics
import time

import pytest
import requests
import tweepy
from sandbox_server import BOT, SIGNED, Server, StartServer, ToSandbox, tweepy_client

from app.sandbox.faults import Fault, Faults


def impatient(server: Server, seconds: float) -> tweepy.Client:
    """A client that gives up after so many seconds."""

    class Hurry(ToSandbox):
        def send(self, request: requests.PreparedRequest, *args: object, **kwargs: object) -> requests.Response:
            assert request.url is not None
            request.url = request.url.replace(SIGNED, self.base_url)
            return super(ToSandbox, self).send(request, *args, **{**kwargs, "timeout": seconds})  # type: ignore[arg-type]

    client = tweepy_client(server.base_url)
    client.session.mount(SIGNED, Hurry(server.base_url))
    return client


def texts(server: Server) -> set[str]:
    return {post.text for post in server.client.get_users_tweets(BOT, user_auth=True).data or []}


def wait_for(server: Server, text: str) -> None:
    deadline = time.monotonic() + 10
    while text not in texts(server):
        assert time.monotonic() < deadline, f"{text!r} never took effect"
        time.sleep(0.1)


def test_a_script_says_what_happens_to_the_next_requests(start_server: StartServer) -> None:
    server = start_server()
    client, post = server.client, {"method": "POST", "path": "^/2/tweets$"}
    server.control(
        "script",
        [
            {"fault": "503", **post},
            {"fault": "none", **post, "count": 2},
            {"fault": "reset_after", **post},
            {"fault": "429_no_reset", "path": "/2/users/me"},
        ],
    )
    client.get_me()  # not the next thing in the script: it passes, and uses nothing up
    with pytest.raises(tweepy.TwitterServerError):
        client.create_tweet(text="First.")
    client.create_tweet(text="Second.")
    client.create_tweet(text="Third.")
    with pytest.raises(requests.ConnectionError):
        client.create_tweet(text="Fourth.")
    assert [entry["fault"] for entry in server.control("script")] == ["429_no_reset"]
    client.create_tweet(text="Fifth.")
    with pytest.raises(tweepy.TooManyRequests):
        client.get_me()
    assert server.control("script") == []
    client.get_me()
    assert texts(server) == {"Second.", "Third.", "Fourth.", "Fifth."}


def test_time_outs_with_and_without_an_effect(start_server: StartServer) -> None:
    server = start_server()
    client = impatient(server, 0.5)
    server.control("script", [{"fault": "timeout", "seconds": 2}, {"fault": "timeout_after", "seconds": 2}])
    for text in ("Never made.", "Made, and nobody said so."):
        with pytest.raises(requests.ReadTimeout):
            client.create_tweet(text=text)
    assert texts(server) == {"Made, and nobody said so."}
    server.control("script", [{"fault": "timeout", "seconds": 0.2}])
    with pytest.raises(requests.ConnectionError):
        server.client.create_tweet(text="A patient client is cut off.")
    assert [row["status"] for row in server.control("record")] == [0, 201, 0]


@pytest.mark.parametrize("fault", ["late_effect", "latency"])
def test_a_post_takes_effect_after_its_client_gave_up(start_server: StartServer, fault: str) -> None:
    server = start_server()
    server.control("script", [{"fault": fault, "seconds": 1.5, "method": "POST"}])
    with pytest.raises(requests.ReadTimeout):
        impatient(server, 0.4).create_tweet(text="Late, but made.")
    assert texts(server) == set(), "it has not taken effect yet"
    wait_for(server, "Late, but made.")
    [row] = server.control("record")
    assert (row["status"], row["fault"]) == (201, fault)
    assert server.control("summary")["duplicates"] == 0


def test_answers_that_cannot_be_read(start_server: StartServer) -> None:
    server = start_server()
    client = server.client
    server.control("script", [{"fault": "truncated_json"}, {"fault": "malformed_json"}])
    for beginning, whole in (('{"data"', False), ("{'data'", True)):
        with pytest.raises(requests.JSONDecodeError) as caught:
            client.get_me()
        assert caught.value.doc.startswith(beginning)
        assert caught.value.doc.endswith("}") is whole


@pytest.mark.parametrize(
    ("distribution", "median", "spread"),
    [("fixed", 2.0, 0.0), ("uniform", 2.0, 4.0), ("exponential", 1.386, 8.0), ("lognormal", 2.0, 4.0)],
)
def test_latency_has_a_distribution(distribution: str, median: float, spread: float) -> None:
    def run(seed: int) -> list[float]:
        fault = Fault.model_validate({"fault": "latency", "seconds": 2.0, "distribution": distribution})
        faults = Faults(seed, [fault])
        return [faults.strike("GET", "/2/users/me")[0].seconds for _ in range(2000)]

    drawn = run(1)
    assert drawn == run(1), "the same seed draws the same"
    assert statistics.median(drawn) == pytest.approx(median, rel=0.08)
    assert max(drawn) - min(drawn) >= 0.9 * spread
    assert (drawn == run(2)) is (distribution == "fixed")


def test_a_rate_in_a_script_is_a_chance_and_is_used_up() -> None:
    faults = Faults(1, script=[Fault(fault="500", rate=0.5, count=200)])
    struck = sum(bool(faults.strike("GET", "/2/users/me")) for _ in range(200))
    assert 70 < struck < 130
    assert faults.script == []
