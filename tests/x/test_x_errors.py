"""Which error each thing that X or the network does becomes."""

from __future__ import annotations

import pickle
import socket
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted_x import CANARIES, CutShort, Reply, Reset, Stall, post, problem

from app import clock
from app.config import Secrets
from app.x import errors
from app.x.endpoints import Endpoint
from app.x.refusals import error_of
from app.x.transport import Answer

DUPLICATE = {
    "detail": "You are not allowed to create a Tweet with duplicate content.",
    "type": "about:blank",
    "title": "Forbidden",
    "status": 403,
}
UNSUMMONED = problem(
    "not-authorized-for-resource", "You can only reply to or quote posts where you are mentioned or are the author."
)
DELETED = {"detail": "You attempted to reply to a Tweet that is deleted or not visible to you.", "type": "about:blank"}


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, problem("invalid-request", "One or more parameters was invalid."), errors.BadRequest),
        (401, {"title": "Unauthorized", "type": "about:blank", "detail": "Unauthorized"}, errors.Unauthorized),
        (402, problem("credits-depleted", "No credits."), errors.CreditsDepleted),
        (403, DUPLICATE, errors.Duplicate),
        (403, {"errors": [{"code": 187, "message": "Status is a duplicate."}]}, errors.Duplicate),
        (403, UNSUMMONED, errors.NotAllowed),
        (403, DELETED, errors.Gone),
        (403, {"errors": [{"code": 326, "message": "To protect our users"}]}, errors.AccountLocked),
        (403, {"errors": [{"code": 64, "message": "x"}]}, errors.AccountSuspended),
        (
            403,
            {"detail": "Your account is suspended and is not permitted to access this feature."},
            errors.AccountSuspended,
        ),
        (403, b"<html>no</html>", errors.NotAllowed),
        (404, problem("resource-not-found", "Not Found"), errors.Gone),
        (429, {"errors": [{"code": 88, "message": "Rate limit exceeded"}]}, errors.RateLimited),
        (429, problem("usage-capped", "Usage cap exceeded", period="Monthly"), errors.RateLimited),
        (503, b"upstream connect error", errors.OutcomeUnknown),
        (500, [], errors.OutcomeUnknown),
        (500, {"errors": None}, errors.OutcomeUnknown),
        (500, {"errors": [1, "text"]}, errors.OutcomeUnknown),
        (302, {}, errors.BadRequest),
    ],
)
def test_answers_to_a_post(x, connect, status, body, error):
    x.script(Reply(status, body, {"Location": "/elsewhere"} if status == 302 else {}))
    with pytest.raises(errors.XError) as caught:
        connect().reply_to_tweet("1", "hello")
    assert type(caught.value) is error
    assert caught.value.endpoint == "POST /2/tweets"
    assert caught.value.status == status
    assert len(x.requests) == 1  # nothing is tried again, and no redirect is followed


def test_the_problem_type_is_told_whatever_its_host(x, connect):
    for host in ("api.x.com", "api.twitter.com"):
        body = UNSUMMONED | {"type": f"https://{host}/2/problems/not-authorized-for-resource"}
        x.script(Reply(403, body))
        with pytest.raises(errors.NotAllowed, match="mentioned or are the author") as caught:
            connect().reply_to_tweet("1", "hello")
        assert caught.value.problem == "not-authorized-for-resource"


@pytest.mark.parametrize("accident", [Reset(), Stall(), CutShort(), Reply(201, b"{"), Reply(201, []), Reply(201, {})])
def test_a_post_whose_answer_is_lost_may_have_been_made(x, connect, accident):
    x.script(accident)
    with pytest.raises(errors.OutcomeUnknown):
        connect(timeout=0.5).post_tweet("hello")
    assert len(x.requests) == 1


@pytest.mark.parametrize("accident", [Reset(), Stall(), CutShort(200), Reply(200, b"{"), Reply(503, b"")])
def test_a_read_whose_answer_is_lost_may_be_made_again(x, connect, accident):
    x.script(accident)
    with pytest.raises(errors.ServerUnavailable):
        connect(timeout=0.5).me()
    assert len(x.requests) == 1


def test_following_and_deleting_may_be_repeated(x, connect):
    x.script(Reset(), Reset())
    with pytest.raises(errors.ServerUnavailable):
        connect().follow("7")
    with pytest.raises(errors.ServerUnavailable):
        connect().delete_tweet("7")


def test_a_refused_connection_delivered_nothing(connect):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(errors.NotDelivered):
        connect(secrets=_secrets(address)).post_tweet("hello")


def test_an_unknown_host_was_told_nothing(connect):
    with pytest.raises(errors.NotDelivered):
        connect(secrets=_secrets("http://no-such-host.invalid")).post_tweet("hello")


def _secrets(address):
    return Secrets(**CANARIES, x_base_url=address)


def test_a_full_window_says_when_it_is_empty_again(x, connect):
    reset = int((clock.now() + timedelta(minutes=7)).timestamp())
    headers = {"x-rate-limit-limit": "5", "x-rate-limit-remaining": "0", "x-rate-limit-reset": str(reset)}
    x.script(Reply(429, {"errors": [{"code": 88}]}, headers))
    with pytest.raises(errors.RateLimited) as caught:
        connect().me()
    assert caught.value.retry_at.timestamp() == reset


def test_a_daily_window_counts_only_if_it_is_the_empty_one(x, connect):
    near, far = (int((clock.now() + timedelta(minutes=m)).timestamp()) for m in (5, 600))
    headers = {
        "x-rate-limit-remaining": "80",
        "x-rate-limit-reset": str(near),
        "x-user-limit-24hour-remaining": "0",
        "x-user-limit-24hour-reset": str(far),
    }
    x.script(Reply(429, {}, headers))
    with pytest.raises(errors.RateLimited) as caught:
        connect().post_tweet("hello")
    assert caught.value.retry_at.timestamp() == far


def test_a_429_without_headers_and_a_spent_cap_have_a_time_too(x, connect):
    x.script(Reply(429, b""), Reply(429, problem("usage-capped", "cap", period="Monthly")))
    with pytest.raises(errors.RateLimited) as first:
        connect().me()
    assert timedelta(minutes=14) < first.value.retry_at - clock.now() <= timedelta(minutes=15)
    with pytest.raises(errors.RateLimited) as second:
        connect().me()
    assert (second.value.retry_at.day, second.value.retry_at.hour) == (1, 0)
    assert second.value.retry_at > clock.now()


def test_a_list_of_somebody_who_is_gone_or_hidden(x, connect):
    x.script(
        Reply(body={"errors": [problem("resource-not-found", "Could not find user", value="7")]}),
        Reply(body={"errors": [problem("not-authorized-for-resource", "protected", value="7")]}),
    )
    with pytest.raises(errors.Gone):
        next(connect().get_user_posts("7", 10))
    with pytest.raises(errors.NotAllowed):
        next(connect().get_user_posts("7", 10))


def test_an_empty_list_is_no_error(x, connect):
    x.script(Reply(body={"meta": {"result_count": 0}}))
    assert connect().get_timeline("1000001") == []


@pytest.mark.parametrize("text", ["", "   ", "x" * 281, "🙂" * 141])
def test_a_text_that_x_would_refuse_is_not_sent(x, connect, text):
    with pytest.raises(errors.BadRequest, match="weighted characters"):
        connect().post_tweet(text)
    assert x.requests == []


def test_errors_survive_pickling():
    at = clock.now()
    error = errors.RateLimited("full", endpoint="GET /2/tweets", status=429, problem="88", retry_at=at)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (str(copy), copy.retry_at, copy.problem) == ("GET /2/tweets 429: full", at, "88")


FIELDS = ["errors", "error", "data", "meta", "type", "detail", "message", "code", "title", "id", "text"]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=12,
)
bodies = st.dictionaries(st.sampled_from(FIELDS), json_values)


@given(body=bodies, status=st.integers(200, 599))
def test_any_answer_is_usable_or_an_error_of_ours(body, status):
    for endpoint in (Endpoint.CREATE_POST, Endpoint.POSTS, Endpoint.MENTIONS):
        error = error_of(endpoint, Answer(status, {}, body))
        assert error is None or isinstance(error, errors.XError)
        assert error is not None or 200 <= status < 300
        if endpoint.repeatable:
            assert not isinstance(error, errors.OutcomeUnknown)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=json_values, includes=json_values)
def test_whatever_x_sends_as_posts_is_read_or_left_out(x, connect, data, includes):
    x.requests.clear()
    x.script(Reply(body={"data": [post("5"), data], "includes": includes, "meta": {}}))
    assert connect().get_timeline("1000001")[0].x_post_id == "5"
