"""The queries on the seed's four tables, on a real PostgreSQL."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from factories import BOT, give_checkpoint, give_draft, give_persona

from app import clock
from app.connectors.bot_db import BotDB
from app.connectors.community_db import CommunityDB
from app.connectors.engagement_db import EngagementDB
from app.connectors.quotes_comments_db import QuotesCommentsDB
from app.text import text_hash
from app.x.types import XUser
from dbs.models import Bot, Engagement, Post, QuoteComment
from dbs.states import FollowState, Kind, PostState

HOUR = timedelta(hours=1)


@pytest.fixture
def give_post(database, bot):
    """Makes posts of the bot; each with a draft of its own."""
    with database.transaction() as session:
        give_persona(session)
        checkpoint = give_checkpoint(session)

    def make(**facts) -> uuid.UUID:
        content = facts.setdefault("content", f"text {uuid.uuid4()}")
        now = clock.now()
        with database.transaction() as session:
            draft = give_draft(session, checkpoint, content)
            row = Post(
                **{
                    "bot_id": BOT,
                    "content_gen_prompt": "Write.",
                    "is_reply": False,
                    "kind": Kind.POST,
                    "draft_id": draft.draft_id,
                    "checkpoint_id": checkpoint.checkpoint_id,
                    "persona_version": 1,
                    "text_hash": text_hash(content),
                    "state": PostState.QUEUED,
                    "queued_at": now,
                    "due_at": now,
                    **facts,
                }
            )
            session.add(row)
            session.flush()
            return row.post_id

    return make


def posts(database, ask):
    with database.transaction() as session:
        return ask(BotDB(session, BOT))


def test_a_post_is_claimed_by_one_of_many(database, give_post):
    post_id = give_post()
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda _: posts(database, lambda db: db.claim_sending(post_id)), range(8)))
    (won,) = [claim for claim in claims if claim is not None]
    assert (won.state, won.attempts) == (PostState.SENDING, 1)
    assert abs(won.sending_at - clock.wall_now()) < timedelta(minutes=1)


def test_posts_of_another_bot_are_not_there(database, give_post):
    post_id = give_post()
    with database.transaction() as session:
        session.add(Bot(bot_id="other", user_id="2", handle=None, created_at=clock.now()))
        session.flush()
        other = BotDB(session, "other")
        assert other.get(post_id) is None
        assert other.claim_sending(post_id) is None
        assert other.due_to_send(clock.now() + HOUR, 10) == []
    assert posts(database, lambda db: db.get(post_id)).post_id == post_id


def test_due_posts_come_in_the_order_of_their_moment(database, give_post):
    now = clock.now()
    late, soon = give_post(due_at=now - HOUR), give_post(due_at=now - 2 * HOUR)
    give_post(due_at=now + HOUR)
    give_post(due_at=now - HOUR, state=PostState.DRY)
    assert posts(database, lambda db: db.due_to_send(now, 10)) == [soon, late]
    assert posts(database, lambda db: db.due_to_send(now, 1)) == [soon]


def test_lost_posts_are_those_that_nobody_waits_for(database, give_post):
    now, wall = clock.now(), clock.wall_now()
    abandoned = give_post(state=PostState.SENDING, sending_at=wall - HOUR)
    unconfirmed = give_post(state=PostState.UNCONFIRMED, due_at=now - HOUR)
    give_post(state=PostState.SENDING, sending_at=wall)
    give_post(state=PostState.UNCONFIRMED, due_at=now + HOUR)
    found = posts(database, lambda db: db.to_find(now, wall - timedelta(minutes=2)))
    assert {post.post_id for post in found} == {abandoned, unconfirmed}


def test_texts_and_counts(database, give_post):
    now = clock.now()
    give_post(content="newest", queued_at=now)
    give_post(content="sent", state=PostState.POSTED, queued_at=now - 3 * HOUR, post_time=now - 2 * HOUR, x_post_id="1")
    give_post(content="failed", state=PostState.FAILED, queued_at=now)
    answered = {"kind": Kind.REPLY, "is_reply": True, "target_post_id": "5", "target_author_id": "7"}
    give_post(content="dry", state=PostState.DRY, queued_at=now - HOUR, **answered)
    assert posts(database, lambda db: db.recent_texts(10)) == ["newest", "dry", "sent"]
    assert posts(database, lambda db: db.recent_texts(1)) == ["newest"]
    counts = posts(database, lambda db: db.posted_since(now - timedelta(hours=1.5)))
    assert counts == {PostState.QUEUED: 1, PostState.FAILED: 1, PostState.DRY: 1}
    assert posts(database, lambda db: db.posted_since(now - timedelta(hours=2.5)))[PostState.POSTED] == 1


def test_many_workers_measure_each_post_once(database, give_post):
    now = clock.now()
    due = {
        give_post(state=PostState.POSTED, x_post_id=str(i), post_time=now - HOUR, next_measure_at=now - i * HOUR)
        for i in range(1, 13)
    }
    give_post(state=PostState.POSTED, x_post_id="99", post_time=now, next_measure_at=now + HOUR)
    with ThreadPoolExecutor(4) as pool:
        claims = list(pool.map(lambda _: posts(database, lambda db: db.claim_to_measure(now, 4, HOUR)), range(4)))
    claimed = [post.post_id for claim in claims for post in claim]
    assert len(claimed) == len(set(claimed)) == 12
    assert set(claimed) == due
    posts(database, lambda db: db.schedule_measures([(claimed[0], 7, None)]))
    planned = posts(database, lambda db: db.get(claimed[0]))
    assert (planned.measure_step, planned.next_measure_at) == (7, None)


def reading(post_id, age: timedelta, likes: int | None) -> Engagement:
    return Engagement(
        post_id=post_id,
        bot_id=BOT,
        retrieval_time=clock.now() + age,
        likes=likes,
        planned_age_s=int(age.total_seconds()),
        age_s=age.total_seconds() + 30,
    )


def test_readings_are_a_history(database, give_post):
    post_id = give_post(state=PostState.POSTED, x_post_id="1", post_time=clock.now())
    with database.transaction() as session:
        db = EngagementDB(session, BOT)
        assert db.latest(post_id) is None
        db.add(reading(post_id, HOUR, 1), reading(post_id, 4 * HOUR, None), reading(post_id, 24 * HOUR, 9))
    with database.transaction() as session:
        db = EngagementDB(session, BOT)
        assert [row.likes for row in db.history(post_id)] == [1, None, 9]
        assert db.latest(post_id).likes == 9
        assert db.at_age(post_id, 2 * 3600).likes is None
        assert db.at_age(post_id, 4 * 3600 + 31).likes == 9
        assert db.at_age(post_id, 25 * 3600) is None
        with pytest.raises(ValueError, match="'other'"):
            EngagementDB(session, "other").add(reading(post_id, HOUR, 1))


def test_what_was_said_is_stored_once_and_refreshed(database, give_post):
    post_id = give_post(state=PostState.POSTED, x_post_id="1", post_time=clock.now())

    def said(reply_id: str, likes: int | None, content: str = "well said") -> QuoteComment:
        now = clock.now()
        return QuoteComment(
            post_id=post_id,
            reply_id=reply_id,
            comment=True,
            time_of_reply=now,
            bot_id=BOT,
            author_id="7",
            content=content,
            likes=likes,
            fetched_at=now,
        )

    with database.transaction() as session:
        assert QuotesCommentsDB(session, BOT).upsert([said("11", 1), said("12", 2), said("12", 2)]) == 2
    with database.transaction() as session:
        db = QuotesCommentsDB(session, BOT)
        assert db.upsert([said("12", 5, "changed"), said("11", None), said("13", 0)]) == 1
        assert db.upsert([]) == 0
    with database.transaction() as session:
        rows = QuotesCommentsDB(session, BOT).of_post(post_id)
        assert [(row.reply_id, row.likes, row.content) for row in rows] == [
            ("11", 1, "well said"),
            ("12", 5, "well said"),
            ("13", 0, "well said"),
        ]


def test_profiles_keep_what_x_leaves_out(database, bot):
    with database.transaction() as session:
        db = CommunityDB(session, BOT)
        db.upsert([XUser("7", "Ada", name="Ada", bio="maths", followers=10), XUser("8", "bob")])
        db.set_summary("7", "writes about engines")
        db.upsert([XUser("7", "ada_l", followers=11), XUser("7", "ada_l", followers=12)])
    with database.transaction() as session:
        db = CommunityDB(session, BOT)
        ada = db.get("7")
        assert (ada.handle, ada.name, ada.bio, ada.followers) == ("ada_l", "Ada", "maths", 12)
        assert ada.account_summary == "writes about engines"
        assert db.id_of("@ADA_L") == "7"
        assert db.id_of("Ada") is None
        with pytest.raises(LookupError, match="99"):
            db.set_summary("99", "nobody")


def test_a_handle_that_changed_hands_is_its_last_owners(database, bot):
    for user_id in ("7", "8"):
        with database.transaction() as session:
            CommunityDB(session, BOT).upsert([XUser(user_id, "prize")])
    with database.transaction() as session:
        assert CommunityDB(session, BOT).id_of("prize") == "8"


def test_members_join_and_who_was_met_does_not_lose_his_place(database, bot):
    with database.transaction() as session:
        db = CommunityDB(session, BOT)
        db.upsert([XUser("7", "ada"), XUser("8", "bob"), XUser("9", "cyd")])
        db.join("7", FollowState.WANTED)
        db.join("8", FollowState.UNAVAILABLE, "not on this tier")
        db.meet(["9", "7", "9"])
        db.meet([])
    with database.transaction() as session:
        db = CommunityDB(session, BOT)
        assert {member.user_id: member.follow_state for member in db.members()} == {"7": "wanted", "8": "unavailable"}
        assert db.followed() == []
        db.join("7", FollowState.FOLLOWING)
    with database.transaction() as session:
        db = CommunityDB(session, BOT)
        (ada,) = db.followed()
        assert ada.followed_at is not None
        assert {profile.handle for profile in db.without_summary(10)} == {"ada", "bob", "cyd"}
        db.set_summary("7", "engines")
        assert len(db.without_summary(10)) == 2
        assert len(db.without_summary(1)) == 1
        assert db.stale(60) == []
        assert set(db.stale(-1)) == {"7", "8", "9"}
