"""What XInteractor asks of X and what it makes of the answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from scripted_x import Reply, post, problem, user

from app import clock
from app.x import errors
from app.x.types import Counts, newest_id
from dbs.models import Cursor
from dbs.states import FollowState


def test_timeline_asks_for_what_is_new_and_reads_it(x, connect, database, bot):
    with database.transaction() as session:
        session.add(Cursor(bot_id=bot.bot_id, name="timeline", value="1999", updated_at=clock.now()))
    x.script(
        Reply(
            body={
                "data": [
                    post(
                        "2003",
                        text="Tom &amp; Jerry &lt;3 https://t.co/a",
                        in_reply_to_user_id="8",
                        referenced_tweets=[{"type": "replied_to", "id": "2000"}, {"type": "quoted", "id": "1990"}],
                        entities={
                            "mentions": [{"username": "bob", "id": "8"}, {"username": "noid"}],
                            "urls": [{"url": "https://t.co/a", "expanded_url": "https://example.com/x"}],
                        },
                    ),
                    post("2002"),
                ],
                "meta": {"result_count": 2},
            }
        )
    )
    tweets = connect(db=database).get_timeline("1000001", 50)

    (request,) = x.requests
    assert request.path == "/2/users/1000001/timelines/reverse_chronological"
    assert request.query["since_id"] == "1999"
    assert request.query["max_results"] == "50"
    assert request.query["exclude"] == "retweets"
    first = tweets[0]
    assert first.text == "Tom & Jerry <3 https://t.co/a"
    assert (first.in_reply_to_post_id, first.quoted_post_id, first.in_reply_to_user_id) == ("2000", "1990", "8")
    assert first.mentioned_user_ids == ("8",)
    assert first.urls == ("https://example.com/x",)
    assert first.created_at == datetime(2026, 1, 5, 8, tzinfo=UTC)
    assert first.counts == Counts(likes=3, retweets=2, replies=1, quotes=0, bookmarks=4, impressions=50)
    assert newest_id(tweets) == "2003"


def test_timeline_of_another_account_is_refused_before_a_request(x, connect):
    with pytest.raises(ValueError, match="1000001"):
        connect().get_timeline("5")
    assert x.requests == []


def test_newest_id_compares_numbers_not_texts(x, connect):
    x.script(Reply(body={"data": [post("999"), post("1000")]}))
    assert newest_id(connect().get_timeline("1000001")) == "1000"
    assert newest_id([]) is None


def test_mentions_are_paged_to_the_end_with_authors(x, connect):
    x.script(
        Reply(
            body={
                "data": [post("30"), post("29")],
                "includes": {
                    "users": [
                        user("7", "ada", public_metrics={"followers_count": 5, "following_count": 6}, protected=False)
                    ]
                },
                "meta": {"next_token": "page2"},
            }
        ),
        Reply(body={"data": [post("28")], "meta": {"result_count": 1}}),
    )
    tweets = connect().get_mentions(100)
    assert [tweet.x_post_id for tweet in tweets] == ["30", "29", "28"]
    assert tweets[0].author is not None
    assert (tweets[0].author.handle, tweets[0].author.followers, tweets[0].author.protected) == ("ada", 5, False)
    assert tweets[2].author is None
    assert x.requests[1].query["pagination_token"] == "page2"
    assert x.requests[1].query["max_results"] == "98"
    assert x.requests[0].query["expansions"] == "author_id"


def test_user_posts_go_3200_back_and_a_page_costs_only_when_asked_for(x, connect):
    def page(request):
        at = int(request.query.get("pagination_token", "0"))
        posts = [post(str(10_000 - at * 100 - i)) for i in range(100)]
        return Reply(body={"data": posts, "meta": {"next_token": str(at + 1)} if at < 31 else {}})

    x.otherwise = page
    pages = connect().get_user_posts("7", 3200)
    assert x.requests == []
    next(pages)
    assert len(x.requests) == 1
    rest = list(pages)
    assert len(x.requests) == 32
    assert sum(len(page.tweets) for page in rest) == 3100
    assert rest[-1].next_token is None


def test_own_posts_from_a_time_on(x, connect):
    x.script(Reply(body={"data": [post(str(i)) for i in range(5, 0, -1)]}))
    own = connect().get_own_posts(2, start_time=datetime(2026, 1, 5, 9, 30, 1, tzinfo=UTC))
    assert [tweet.x_post_id for tweet in own] == ["5", "4"]
    assert x.requests[0].query["start_time"] == "2026-01-05T09:30:01Z"
    assert x.requests[0].query["max_results"] == "5"


def test_posts_are_looked_up_a_hundred_at_a_time_and_missing_ones_have_a_reason(x, connect):
    def lookup(request):
        ids = request.query["ids"].split(",")
        gone = [
            problem("resource-not-found", f"Could not find tweet with ids: [{i}].", resource_id=i)
            for i in ids
            if i == "7"
        ]
        return Reply(body={"data": [post(i) for i in ids if i not in {"7", "8"}], **({"errors": gone} if gone else {})})

    x.otherwise = lookup
    ids = [str(i) for i in range(1, 251)]
    found, missing = connect().get_posts([*ids, "1"])
    assert len(x.requests) == 3
    assert len(found) == 248
    assert missing == {"7": "Could not find tweet with ids: [7].", "8": "X returned nothing for it"}


def test_no_ids_no_request(x, connect):
    client = connect()
    assert client.get_posts([]) == ({}, {})
    assert client.get_counts([]) == {}
    assert client.resolve_handles([]) == ({}, {})
    assert x.requests == []


def test_counts_read_both_vocabularies_and_private_metrics(x, connect):
    old = post("1", non_public_metrics={"impression_count": 60, "url_link_clicks": 2, "user_profile_clicks": 1})
    new = {"id": "2", "public_metrics": {"repost_count": 9, "like_count": 0}}
    x.script(Reply(body={"data": [old, new]}))
    counts = connect().get_counts(["1", "2", "3"])
    assert counts["1"] == Counts(3, 2, 1, 0, 4, 50, url_link_clicks=2, user_profile_clicks=1)
    assert counts["2"] == Counts(likes=0, retweets=9)
    assert "3" not in counts
    assert len(x.requests) == 1


def test_posts_that_x_refuses_for_their_private_metrics_are_asked_for_again_without(x, connect):
    refusal = problem("not-authorized-for-field", "no", resource_id="2", field="non_public_metrics", section="data")
    x.script(Reply(body={"data": [post("1")], "errors": [refusal, refusal]}), Reply(body={"data": [post("2")]}))
    assert set(connect().get_counts(["1", "2"])) == {"1", "2"}
    assert x.requests[1].query["ids"] == "2"
    assert "non_public" not in x.requests[1].query["tweet.fields"]


def test_counts_without_private_metrics_where_the_whole_request_is_refused(x, connect):
    x.script(Reply(403, problem("not-authorized-for-field", "no")), Reply(body={"data": [post("1")]}))
    assert connect().get_counts(["1"])["1"].likes == 3


def test_a_time_without_fractions_is_read_and_a_post_without_one_left_out(x, connect):
    without = post("3")
    del without["created_at"]
    x.script(
        Reply(body={"data": [post("1", created_at="2026-01-05T08:00:00Z"), post("2", created_at="soon"), without]})
    )
    assert [tweet.x_post_id for tweet in connect().get_timeline("1000001")] == ["1"]


def test_long_posts_come_with_their_whole_text(x, connect):
    note = {"text": "long &gt; short", "entities": {"mentions": [{"id": "9", "username": "i"}]}}
    x.script(Reply(body={"data": [post("1", text="long…", note_tweet=note)]}))
    (tweet,) = connect().get_timeline("1000001")
    assert tweet.text == "long > short"
    assert tweet.mentioned_user_ids == ("9",)


def test_replies_are_the_direct_ones_in_the_conversation_that_the_post_is_in(x, connect):
    x.script(
        Reply(body={"data": [post("50", conversation_id="40")]}),
        Reply(
            body={
                "data": [
                    post("52", referenced_tweets=[{"type": "replied_to", "id": "50"}]),
                    post("53", referenced_posts=[{"type": "replied_to", "id": "50"}]),
                    post("54", referenced_tweets=[{"type": "replied_to", "id": "52"}]),
                ]
            }
        ),
    )
    assert [tweet.x_post_id for tweet in connect().get_replies("50")] == ["52", "53"]
    assert x.requests[1].query["query"] == "conversation_id:40"


def test_replies_need_no_lookup_where_the_conversation_is_known(x, connect):
    x.script(Reply(body={"meta": {"result_count": 0}}))
    assert connect().get_replies("50", conversation_id="40") == []
    assert len(x.requests) == 1


def test_analytics_are_summed_over_time_stamps(x, connect):
    x.script(
        Reply(
            body={
                "data": [
                    {
                        "id": "1",
                        "timestamped_metrics": [
                            {"timestamp": "2026-01-05T08:00:00Z", "metrics": {"likes": 2, "impressions": 10}},
                            {"timestamp": "2026-01-05T09:00:00Z", "metrics": {"likes": 1, "id": "x"}},
                        ],
                    }
                ]
            }
        )
    )
    start = datetime(2026, 1, 5, tzinfo=UTC)
    totals = connect().get_analytics(["1"], start, start + timedelta(days=1))
    assert totals == {"1": {"likes": 3, "impressions": 10}}
    query = x.requests[0].query
    assert (query["start_time"], query["end_time"]) == ("2026-01-05T00:00:00Z", "2026-01-06T00:00:00Z")
    assert x.requests[0].headers["Authorization"].startswith("OAuth ")


def engagement_answer(request):
    if request.path == "/2/tweets":
        return Reply(body={"data": [post("1", non_public_metrics={"url_link_clicks": 0})]})
    if request.path.endswith("retweeted_by"):
        return Reply(body={"data": [user("1"), user("2")]})
    if request.path.endswith("quote_tweets"):
        return Reply(body={"meta": {"result_count": 0}})
    if request.path.endswith("liking_users"):
        return Reply(403, problem("client-forbidden", "not on this tier"))
    return Reply(body={"data": [{"id": "1", "timestamped_metrics": [{"metrics": {"shares": 4}}]}]})


def test_engagement_metrics_are_floats_and_what_x_does_not_say_is_left_out(x, connect):
    x.otherwise = engagement_answer
    metrics = connect().get_engagement_metrics("1")
    assert metrics == {
        "likes": 3.0,
        "retweets": 2.0,
        "replies": 1.0,
        "quotes": 0.0,
        "bookmarks": 4.0,
        "impressions": 50.0,
        "url_link_clicks": 0.0,
        "reposters": 2.0,
        "quoters": 0.0,
        "historical_shares": 4.0,
    }
    assert all(type(value) is float for value in metrics.values())


def test_engagement_metrics_of_a_post_that_is_gone(x, connect):
    x.script(Reply(body={"errors": [problem("resource-not-found", "Could not find tweet.", resource_id="1")]}))
    with pytest.raises(errors.Gone, match="Could not find"):
        connect().get_engagement_metrics("1")


def test_handles_are_resolved_whatever_their_case_and_wrong_ones_never_sent(x, connect):
    missing = problem("resource-not-found", "Could not find user with usernames: [Nobody].", value="Nobody")
    x.script(Reply(body={"data": [user("7", "Ada")], "errors": [missing]}))
    found, reasons = connect().resolve_handles(["@ada", "Nobody", "not a handle", "ada"])
    assert found["ada"].user_id == "7"
    assert reasons["Nobody"].startswith("Could not find user")
    assert "letters, digits" in reasons["not a handle"]
    assert x.requests[0].query["usernames"] == "ada,Nobody"


def test_me_users_and_following(x, connect):
    client = connect()
    x.script(Reply(body={"data": user("1000001", "explorer_bot", description="a bot &amp; more")}))
    assert client.me().bio == "a bot & more"
    x.script(Reply(body={"data": [user("7")], "errors": [problem("resource-not-found", "gone", resource_id="8")]}))
    assert set(client.get_users(["7", "8"])) == {"7"}
    x.script(Reply(body={"data": [user("7")], "meta": {"next_token": "n"}}), Reply(body={"data": [user("8", "bob")]}))
    assert [followed.user_id for followed in client.get_following()] == ["7", "8"]


@pytest.mark.parametrize(
    ("data", "state"),
    [
        ({"following": True, "pending_follow": False}, FollowState.FOLLOWING),
        ({"following": False, "pending_follow": True}, FollowState.PENDING),
    ],
)
def test_follow_says_whether_it_is_pending(x, connect, data, state):
    x.script(Reply(body={"data": data}))
    assert connect().follow("7") is state
    assert x.requests[0].body == {"target_user_id": "7"}
    assert x.requests[0].path == "/2/users/1000001/following"
