"""What is not known to be live sends nothing that changes X."""

from __future__ import annotations

import pytest
from scripted_x import Reply, user
from sqlalchemy import select

from app.x.types import Sent
from dbs.models import LedgerEntry
from dbs.states import FollowState


@pytest.mark.parametrize("live", [False, None, 1, "true", "live"])
def test_nothing_but_true_is_live(x, connect, live):
    client = connect(live=live)
    assert client.post_tweet("hello") == Sent(x_post_id=None, dry=True, text="hello")
    assert client.reply_to_tweet("1", "hello").dry
    assert client.quote_tweet("1", "hello").dry
    assert client.follow("7") is FollowState.WANTED
    assert client.delete_tweet("1") is False
    assert x.requests == []


def test_a_dry_run_reads_and_is_written_down_at_no_cost(x, connect, database, bot):
    client = connect(live=False, db=database)
    x.script(Reply(body={"data": user("1000001")}))
    client.me()
    client.post_tweet("see https://example.com")
    assert len(x.requests) == 1
    with database.transaction() as session:
        entries = session.scalars(select(LedgerEntry).order_by(LedgerEntry.entry_id)).all()
    assert [(entry.endpoint, entry.outcome, float(entry.cost_usd)) for entry in entries] == [
        ("GET /2/users/me", "ok", 0.01),
        ("POST /2/tweets", "dry", 0.0),
    ]


def test_live_posts_are_sent_as_x_wants_them(x, connect):
    x.otherwise = Reply(201, {"data": {"id": "99", "text": "hello"}})
    client = connect()
    assert client.post_tweet("hello") == Sent(x_post_id="99", dry=False, text="hello")
    client.reply_to_tweet("5", "hello")
    client.quote_tweet("6", "hello")
    assert [request.body for request in x.requests] == [
        {"text": "hello"},
        {"text": "hello", "reply": {"in_reply_to_tweet_id": "5"}},
        {"text": "hello", "quote_tweet_id": "6"},
    ]
    x.script(Reply(200, {"data": {"deleted": True}}))
    assert client.delete_tweet("99") is True
    assert (x.requests[-1].method, x.requests[-1].path) == ("DELETE", "/2/tweets/99")
