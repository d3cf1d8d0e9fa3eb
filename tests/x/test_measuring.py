"""A batch of measuring: posts that nobody answered, one that somebody did, one that is gone."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from factories import BOT, give_checkpoint, give_draft, give_persona
from scripted_x import Reply, Request, ScriptedX, post
from sqlalchemy import select

from app import clock
from app.config import VibeBotConfig
from app.loops import PutOff
from app.measuring import AGES, measure_batch, measure_due
from app.x_interactor import XInteractor
from dbs.models import Bot, Engagement, Post, QuoteComment
from dbs.session import Database
from dbs.states import Kind, PostState

AGE = timedelta(minutes=70)  # past the second planned age
ANSWERED, GONE = "3", "5"


class Counting:
    """An X with six posts of ours, of which one has a reply and one is gone."""

    def __init__(self, x: ScriptedX) -> None:
        self.searches = 0
        x.otherwise = self.answer

    def answer(self, request: Request) -> Reply:
        if request.path.endswith("/search/recent"):
            self.searches += 1
            answers = [{"type": "replied_to", "id": ANSWERED}]
            told = post("900", author_id="77", text="Where was that?", referenced_tweets=answers)
            return Reply(body={"data": [told], "meta": {"result_count": 1}})
        ids = [x_post_id for x_post_id in request.query["ids"].split(",") if x_post_id != GONE]
        return Reply(body={"data": [{"id": i, "public_metrics": counts(int(i == ANSWERED))} for i in ids]})


def counts(replies: int) -> dict[str, int]:
    return {"like_count": 2, "retweet_count": 0, "quote_count": 0, "reply_count": replies}


@pytest.fixture
def posts(database: Database, bot: Bot) -> dict[str, uuid.UUID]:
    """Six posts that are due, by their X ids."""
    now, made = clock.now(), {}
    with database.transaction() as session:
        give_persona(session)
        checkpoint = give_checkpoint(session)
        for x_post_id in map(str, range(1, 7)):
            draft = give_draft(session, checkpoint, f"Number {x_post_id}.")
            row = Post(
                bot_id=BOT, content_gen_prompt="Write.", content=draft.content, is_reply=False, kind=Kind.POST,
                draft_id=draft.draft_id, checkpoint_id=checkpoint.checkpoint_id, persona_version=1,
                text_hash=uuid.uuid4().hex, state=PostState.POSTED, x_post_id=x_post_id, queued_at=now, due_at=now,
                post_time=now - AGE, next_measure_at=now,
            )  # fmt: skip
            session.add(row)
            session.flush()
            made[x_post_id] = row.post_id
    return made


def test_a_batch_is_stored_whole(
    posts: dict[str, uuid.UUID], x: ScriptedX, connect: Callable[..., XInteractor], database: Database,
    config: VibeBotConfig,
) -> None:  # fmt: skip
    counting = Counting(x)
    assert measure_due(database, connect(), config) == 5
    assert counting.searches == 1
    with database.transaction() as session:
        rows = {row.post_id: row for row in session.scalars(select(Engagement))}
        assert rows.keys() == {post_id for x_post_id, post_id in posts.items() if x_post_id != GONE}
        assert {row.likes for row in rows.values()} == {2}
        assert {row.planned_age_s for row in rows.values()} == {3600}
        answered = rows[posts[ANSWERED]]
        assert answered.replies == 1
        assert [row.comments_filepath for row in rows.values() if row is not answered] == [None] * 4
        assert "Where was that?" in (Path(config.data_dir) / str(answered.comments_filepath)).read_text()
        assert [row.reply_id for row in session.scalars(select(QuoteComment))] == ["900"]
        for x_post_id, post_id in posts.items():
            row = session.get_one(Post, post_id)
            if x_post_id == GONE:
                assert row.deleted_at is not None
                assert row.next_measure_at is None
            else:
                assert row.measure_step == 2
                assert row.next_measure_at == row.post_time + AGES[2]


def test_what_was_said_before_stays_with_a_post_that_fell_quiet(
    posts: dict[str, uuid.UUID], x: ScriptedX, connect: Callable[..., XInteractor], database: Database,
    config: VibeBotConfig,
) -> None:  # fmt: skip
    counting = Counting(x)
    measure_due(database, connect(), config)
    # Its one reply is deleted at X; what we know of it, and its export, stay.
    x.otherwise = lambda request: Reply(body={"data": [{"id": ANSWERED, "public_metrics": counts(0)}]})
    with database.transaction() as session:
        session.get_one(Post, posts[ANSWERED]).next_measure_at = clock.now()
    assert measure_batch(database, connect(), config) == 1
    assert counting.searches == 1
    with database.transaction() as session:
        readings = session.scalars(
            select(Engagement).where(Engagement.post_id == posts[ANSWERED]).order_by(Engagement.retrieval_time)
        ).all()
    assert [row.replies for row in readings] == [1, 0]
    assert readings[0].comments_filepath == readings[1].comments_filepath is not None


def test_a_batch_that_is_put_off_stays_due(
    posts: dict[str, uuid.UUID], x: ScriptedX, connect: Callable[..., XInteractor], database: Database,
    config: VibeBotConfig,
) -> None:  # fmt: skip
    x.otherwise = Reply(429, {"errors": [{"code": 88, "message": "Rate limit exceeded"}]})
    with pytest.raises(PutOff):
        measure_batch(database, connect(), config)
    with database.transaction() as session:
        assert session.scalars(select(Engagement)).all() == []
    Counting(x)
    assert measure_batch(database, connect(), config) == 5


def test_nothing_due_is_told_from_nothing_stored(
    bot: Bot, x: ScriptedX, connect: Callable[..., XInteractor], database: Database, config: VibeBotConfig
) -> None:
    assert measure_batch(database, connect(), config) is None
    assert measure_due(database, connect(), config) == 0
    assert x.requests == []
