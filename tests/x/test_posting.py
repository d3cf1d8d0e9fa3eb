"""The outbox against an X that fails in every way it can: nothing twice, nothing lost, nothing sent blind."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from factories import BOT, give_checkpoint, give_draft, give_persona, give_seen
from scripted_x import Reply, Request, Reset, ScriptedX, Stall, problem
from sqlalchemy import select, update

from app import clock
from app.config import VibeBotConfig
from app.connectors.community_db import CommunityDB
from app.posting import due_posts, queue_drafts, send_post
from app.reconciliation import reconcile
from app.x.types import XUser
from app.x_interactor import XInteractor
from dbs.models import Bot, Capability, Checkpoint, Draft, Event, Forgotten, Membership, Post
from dbs.session import Database
from dbs.states import DraftState, Kind, PostState

Connect = Callable[..., XInteractor]


class World:
    """An X that keeps what it was sent, and does with each request what the next word says."""

    def __init__(self, x: ScriptedX) -> None:
        self.x = x
        self.texts: dict[str, str] = {}
        self.words: list[str] = []
        self.posts_received = 0
        x.otherwise = self.answer

    def answer(self, request: Request) -> Reply | Reset | Stall:
        if request.method == "GET":
            return Reply(body=self.own_timeline())
        self.posts_received += 1
        word = self.words.pop(0) if self.words else "ok"
        if word in {"ok", "reset_after", "503_after", "garbled_after"}:
            x_post_id = snowflake()
            self.texts[x_post_id] = request.body["text"]
        return {
            "ok": lambda: Reply(201, {"data": {"id": x_post_id, "text": request.body["text"]}}),
            "reset_before": Reset,
            "reset_after": Reset,
            "503_before": lambda: Reply(503, {"title": "Service Unavailable"}),
            "503_after": lambda: Reply(503, {"title": "Service Unavailable"}),
            "garbled_after": lambda: Reply(201, b'{"data": {"id'),
            "429": lambda: Reply(429, {"errors": [{"code": 88, "message": "Rate limit exceeded"}]}),
        }[word]()

    def own_timeline(self) -> dict[str, object]:
        data = [
            {
                "id": x_post_id,
                "text": text.replace("&", "&amp;"),
                "author_id": "1000001",
                "created_at": clock.now().strftime("%Y-%m-%dT%H:%M:%S.999Z"),
                "edit_history_tweet_ids": [x_post_id],
            }
            for x_post_id, text in self.texts.items()
        ]
        return {"data": data, "meta": {"result_count": len(data)}} if data else {"meta": {"result_count": 0}}


def snowflake() -> str:
    milliseconds = int(clock.now().timestamp() * 1000) - 1_288_834_974_657
    return str((milliseconds << 22) | random.getrandbits(22))


@pytest.fixture
def world(x: ScriptedX) -> World:
    return World(x)


@pytest.fixture
def checkpoint(database: Database, bot: Bot) -> Checkpoint:
    with database.transaction() as session:
        give_persona(session)
        return give_checkpoint(session)


def queued(database: Database, config: VibeBotConfig, checkpoint: Checkpoint, content: str) -> uuid.UUID:
    with database.transaction() as session:
        draft = give_draft(session, checkpoint, content)
    assert queue_drafts(database, config) == 1
    with database.transaction() as session:
        return session.scalars(select(Post.post_id).where(Post.draft_id == draft.draft_id)).one()


def state(database: Database, post_id: uuid.UUID) -> PostState:
    with database.transaction() as session:
        return PostState(session.get_one(Post, post_id).state)


def let_time_pass(database: Database) -> None:
    """Everything that waits is due, and every request under way is long over."""
    past = clock.now() - timedelta(seconds=1)
    with database.transaction() as session:
        session.execute(update(Post).values(due_at=past, sending_at=clock.wall_now() - timedelta(hours=1)))


def test_a_post_goes_out_once(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint, world: World, connect: Connect
) -> None:
    post_id = queued(database, config, checkpoint, "The comet is back & bright")
    x = connect()
    assert due_posts(database, config) == [post_id]
    assert send_post(database, x, config, post_id) is PostState.POSTED
    assert send_post(database, x, config, post_id) is None
    with database.transaction() as session:
        post = session.get_one(Post, post_id)
        assert post.x_post_id in world.texts
        assert post.next_measure_at is not None
        assert abs(post.post_time - clock.now()) < timedelta(seconds=5)
    assert world.posts_received == 1


def test_a_post_whose_target_was_forgotten_is_not_sent(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint, world: World, connect: Connect
) -> None:
    post_id = queued(database, config, checkpoint, "It was put back into the queue meanwhile")
    with database.transaction() as session:
        session.get_one(Post, post_id).target_author_id = "7"
        session.add(Forgotten(bot_id=BOT, subject="7", reason="by hand", at=clock.wall_now()))
    assert send_post(database, connect(), config, post_id) is PostState.REJECTED
    assert world.posts_received == 0


def test_a_post_to_somebody_who_asked_us_to_stop_meanwhile_is_not_sent(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint, world: World, connect: Connect
) -> None:
    post_id = queued(database, config, checkpoint, "It waited for its slot in the hour")
    with database.transaction() as session:
        session.get_one(Post, post_id).target_author_id = "7"
        community = CommunityDB(session, BOT)
        community.upsert([XUser(user_id="7", handle="seven", name="Seven")])
        community.meet(["7"])
        session.get_one(Membership, (BOT, "7")).opted_out_at = clock.now()
    assert send_post(database, connect(), config, post_id) is PostState.REJECTED
    assert world.posts_received == 0


def test_many_workers_send_it_once(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint, world: World, connect: Connect
) -> None:
    post_id = queued(database, config, checkpoint, "Only once")
    x = connect()
    with ThreadPoolExecutor(8) as pool:
        states = list(pool.map(lambda _: send_post(database, x, config, post_id), range(16)))
    assert states.count(PostState.POSTED) == 1
    assert states.count(None) == 15
    assert world.posts_received == 1


def test_a_dry_run_sends_nothing_and_is_never_measured(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint, world: World, connect: Connect
) -> None:
    post_id = queued(database, config, checkpoint, "Not to be seen")
    assert send_post(database, connect(live=False), config, post_id) is PostState.DRY
    with database.transaction() as session:
        assert session.get_one(Post, post_id).next_measure_at is None
    assert world.posts_received == 0


def test_too_late_is_rejected(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint, world: World, connect: Connect
) -> None:
    post_id = queued(database, config, checkpoint, "Old news")
    with database.transaction() as session:
        session.get_one(Post, post_id).expires_at = clock.now() - timedelta(seconds=1)
    assert send_post(database, connect(), config, post_id) is PostState.REJECTED
    assert world.posts_received == 0


def test_a_stopped_bot_sends_nothing(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint, world: World, connect: Connect
) -> None:
    post_id = queued(database, config, checkpoint, "Held back")
    with database.transaction() as session:
        session.get_one(Bot, BOT).stopped_at = clock.wall_now()
    assert send_post(database, connect(), config, post_id) is PostState.REJECTED
    assert world.posts_received == 0


def test_a_window_puts_it_off_and_nothing_is_lost(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint, world: World, connect: Connect
) -> None:
    post_id = queued(database, config, checkpoint, "Patience")
    x = connect()
    world.words = ["429"]
    assert send_post(database, x, config, post_id) is PostState.QUEUED
    assert due_posts(database, config) == []
    let_time_pass(database)
    assert send_post(database, x, config, post_id) is PostState.POSTED


def test_a_capability_that_is_lost_is_learnt(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint, x: ScriptedX, connect: Connect
) -> None:
    enterprise = config.model_copy(update={"budget": config.budget.model_copy(update={"tier": "enterprise"})})
    with database.transaction() as session:
        give_seen(session, "501")
        give_draft(
            session, checkpoint, "A reply", kind=Kind.REPLY, target_post_id="501", target_author_id="7", attempt=1
        )
    assert queue_drafts(database, enterprise) == 1
    x.script(Reply(403, problem("not-authorized-for-resource", "You can only reply where you are mentioned.")))
    (post_id,) = due_posts(database, enterprise)
    assert send_post(database, connect(), enterprise, post_id) is PostState.REJECTED
    with database.transaction() as session:
        assert session.get_one(Capability, (BOT, "reply_unsummoned")).granted is False
        give_seen(session, "502", author_id="8")
        draft = give_draft(session, checkpoint, "Another", kind=Kind.REPLY, target_post_id="502", target_author_id="8")
    assert queue_drafts(database, enterprise) == 0
    with database.transaction() as session:
        refused = session.get_one(Draft, draft.draft_id)
        assert (refused.state, refused.reject_rule) == (DraftState.REJECTED, "capability")


@pytest.mark.parametrize("word", ["reset_after", "503_after", "garbled_after"])
def test_what_took_effect_is_found_and_not_sent_again(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint, world: World, connect: Connect, word: str
) -> None:
    post_id = queued(database, config, checkpoint, "Tea & comets")
    x = connect()
    world.words = [word]
    assert send_post(database, x, config, post_id) is PostState.UNCONFIRMED
    let_time_pass(database)
    assert reconcile(database, x, config) == 1
    assert state(database, post_id) is PostState.POSTED
    assert world.posts_received == 1


@pytest.mark.parametrize("word", ["reset_before", "503_before"])
def test_what_took_no_effect_is_sent_once_more_after_two_absent_reads(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint, world: World, connect: Connect, word: str
) -> None:
    post_id = queued(database, config, checkpoint, "Once more")
    x = connect()
    world.words = [word, word]
    assert send_post(database, x, config, post_id) is PostState.UNCONFIRMED
    let_time_pass(database)
    assert reconcile(database, x, config) == 0
    assert state(database, post_id) is PostState.UNCONFIRMED
    let_time_pass(database)
    assert reconcile(database, x, config) == 1
    assert send_post(database, x, config, post_id) is PostState.UNCONFIRMED
    for _ in range(5):  # a second unknown outcome is a person's to settle, who is told once
        let_time_pass(database)
        reconcile(database, x, config)
    assert state(database, post_id) is PostState.UNCONFIRMED
    assert world.posts_received == 2
    with database.transaction() as session:
        told = session.scalars(select(Event.subject).where(Event.kind == "post.needs_a_person")).all()
    assert told == [str(post_id)]


def test_a_worker_that_died_while_sending_is_reconciled(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint, world: World, connect: Connect
) -> None:
    post_id = queued(database, config, checkpoint, "Died in between")
    with database.transaction() as session:
        session.execute(
            update(Post).values(state=PostState.SENDING, attempts=1, sending_at=clock.wall_now() - timedelta(hours=1))
        )
    world.texts[snowflake()] = "Died in between"
    x = connect()
    assert send_post(database, x, config, post_id) is None
    assert reconcile(database, x, config) == 1
    assert state(database, post_id) is PostState.POSTED


def test_the_same_text_or_target_is_never_queued_twice(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint
) -> None:
    with database.transaction() as session:
        give_draft(session, checkpoint, "Same words")
        give_draft(session, checkpoint, "same  WORDS")
    assert queue_drafts(database, config) == 1
    with database.transaction() as session:
        rules = session.scalars(select(Draft.reject_rule).where(Draft.state == DraftState.REJECTED)).all()
    assert rules == ["already_said"]


WORDS = ["ok", "reset_before", "reset_after", "503_before", "503_after", "garbled_after", "429"]


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_nothing_is_twice_and_nothing_is_forgotten(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint, world: World, connect: Connect, seed: int
) -> None:
    chance = random.Random(seed)
    x = connect()
    ids = [queued(database, config, checkpoint, f"Seed {seed}, post {number}") for number in range(4)]
    world.words = [chance.choice(WORDS) for _ in range(12)]
    for _ in range(12):
        let_time_pass(database)
        for post_id in due_posts(database, config):
            send_post(database, x, config, post_id)
        let_time_pass(database)
        reconcile(database, x, config)
    texts = list(world.texts.values())
    assert len(texts) == len(set(texts))
    for number, post_id in enumerate(ids):
        at_x = f"Seed {seed}, post {number}" in texts
        assert state(database, post_id) is (PostState.POSTED if at_x else PostState.UNCONFIRMED)
