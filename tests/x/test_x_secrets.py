"""No key comes out of XInteractor: not in what it prints, not in a log, not in an error or its traceback."""

from __future__ import annotations

import json
import logging
import traceback

import pytest
import structlog
from scripted_x import CANARIES, Reply, Reset, Stall

from app.config import Secrets
from app.loading import ConfigError
from app.x import errors
from app.x_interactor import XInteractor

PARTS = [value.rpartition("-")[2] for value in CANARIES.values()]


def leaks(text: str) -> list[str]:
    return [part for part in PARTS if part in text]


def everything_about(error: BaseException) -> str:
    """What a logger that prints local variables would write about an exception."""
    told = traceback.TracebackException.from_exception(error, capture_locals=True, compact=False)
    return "".join(told.format()) + repr(error) + repr(error.__dict__)


def fails_with_a_secret_at_hand() -> None:
    secret = CANARIES["x_api_key"]
    raise ValueError(len(secret))


def test_a_planted_canary_is_found():
    with pytest.raises(ValueError, match="16") as caught:
        fails_with_a_secret_at_hand()
    assert leaks(everything_about(caught.value))


def test_what_is_printed(x, connect):
    client = connect()
    assert repr(client) == "XInteractor(user_id='1000001', bot_id='explorer', live=True)"
    assert not leaks(repr(Secrets(**CANARIES)) + repr(vars(client)) + repr(vars(client._wire)))


def echo(request):
    """A proxy that puts what we sent into its error page."""
    return Reply(403, {"title": "Forbidden", "detail": json.dumps(request.headers), "type": "about:blank"})


@pytest.mark.parametrize("accident", [Reset(), Stall(), Reply(500, b"x"), Reply(401, {}), echo])
def test_errors_and_their_tracebacks(x, connect, accident):
    x.script(accident)
    with pytest.raises(errors.XError) as caught:
        connect(timeout=0.5).post_tweet("hello")
    assert not leaks(everything_about(caught.value))


def test_an_unreachable_x(connect):
    with pytest.raises(errors.NotDelivered) as caught:
        connect(secrets=Secrets(**CANARIES, x_base_url="http://127.0.0.1:9")).post_tweet("hello")
    assert not leaks(everything_about(caught.value))


class Interrupted(BaseException):
    """Like a task's time limit: raised from outside, in the middle of a request."""


def test_an_interruption_in_the_middle_of_a_request(x, connect, monkeypatch):
    import http.client

    def interrupted(self):
        raise Interrupted

    monkeypatch.setattr(http.client.HTTPResponse, "begin", interrupted)
    x.script(Reply(201, {}))
    with pytest.raises(Interrupted) as caught:
        connect().post_tweet("hello")
    assert not leaks(everything_about(caught.value))


def test_logs_at_the_most_talkative_level(x, connect, caplog):
    for name in (None, "tweepy.client"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    x.script(Reply(201, {"data": {"id": "1"}}), Reply(403, {"detail": "no"}))
    with caplog.at_level(logging.DEBUG), structlog.testing.capture_logs() as records:
        client = connect()
        client.post_tweet("hello")
        with pytest.raises(errors.NotAllowed):
            client.post_tweet("hello")
    assert [record["event"] for record in records].count("x.request") == 2
    assert not leaks(caplog.text + repr(records))


def test_missing_keys_are_named():
    with pytest.raises(ConfigError, match="X_API_SECRET, X_ACCESS_TOKEN_SECRET missing") as caught:
        XInteractor("1000001", secrets=Secrets(x_api_key="k" * 9, x_access_token=CANARIES["x_access_token"]))
    assert not leaks(everything_about(caught.value))


@pytest.mark.parametrize("token", ["2000002-CANARYtoken0000", "CANARYtoken0000", "CANARYtoken-0000"])
def test_a_token_of_another_account_is_refused_without_showing_it(token):
    with pytest.raises(ConfigError, match="1000001") as caught:
        XInteractor("1000001", secrets=Secrets(**{**CANARIES, "x_access_token": token}))
    assert "CANARY" not in str(caught.value)
    assert ("2000002" in str(caught.value)) == token.startswith("2000002")
