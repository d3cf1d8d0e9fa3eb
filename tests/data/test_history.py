"""What the account posted before the bot: taken in from a real archive, once; seen, and never learnt from."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from archives import SAID, archive
from factories import BOT, give_checkpoint, give_draft, give_seen
from scripted_x import CANARIES
from sqlalchemy import func, select
from typer.testing import CliRunner

from app import clock, earlier
from app.cli import app as cli
from app.config import Secrets, SFTConfig, VibeBotConfig
from app.context import BotContext
from app.data.forgetting import BY_HAND, forget
from app.data.gathering import gather
from app.data.history import take_in
from app.measuring import further_batches, measure_due
from app.policy.targets import RECENT_TEXTS, recent_texts
from app.posting import due_posts, queue_drafts
from app.status import status_of
from dbs.models import Draft, EarlierPost, Engagement, Event, Post, Reward
from dbs.session import Database
from dbs.states import DraftState, Kind, PostState


@pytest.fixture
def context(config: VibeBotConfig, database: Database) -> BotContext:
    budget = config.budget.model_copy(update={"tier": "enterprise"})  # which may answer without being called
    secrets = Secrets(**CANARIES, x_base_url="http://127.0.0.1:1")
    made = BotContext(config.model_copy(update={"budget": budget}), secrets=secrets, db=database)
    made.enrol()
    return made


def rows(context: BotContext) -> dict[str, EarlierPost]:
    with context.db.transaction() as session:
        return {row.x_post_id: row for row in session.scalars(select(EarlierPost))}


def kinds(context: BotContext) -> list[str]:
    with context.db.transaction() as session:
        return [kind for kind in session.scalars(select(Event.kind)) if kind.startswith("history.")]


def test_own_posts_with_what_they_earned_are_taken_in_once(context: BotContext, tmp_path: Path) -> None:
    source = archive(tmp_path / "archive.zip", SAID, SAID[:1])  # parts that overlap
    assert take_in(context.db, context.config, source) == 2
    found = rows(context)
    assert found.keys() == {"20", "21"}, "a repost is none of its own"
    first, reply = found["20"], found["21"]
    assert (first.content, first.likes, first.retweets) == ("Just setting up my tram map & more.", 12, 3)
    assert first.posted_at == datetime(2018, 10, 10, 20, 19, 24, tzinfo=UTC)
    assert (reply.target_post_id, reply.likes, reply.retweets) == ("55", 0, None), "NULL is not zero"
    assert take_in(context.db, context.config, source) == 0
    again = rows(context)
    assert {i: (r.likes, r.retweets, r.read_at) for i, r in again.items()} == {
        i: (r.likes, r.retweets, r.read_at) for i, r in found.items()
    }
    assert kinds(context) == ["history.taken_in"]


def test_a_newer_archive_brings_newer_counts(context: BotContext, tmp_path: Path) -> None:
    take_in(context.db, context.config, archive(tmp_path / "old.zip"))
    later = [SAID[0] | {"favorite_count": "40"}, {k: v for k, v in SAID[1].items() if k != "favorite_count"}]
    assert take_in(context.db, context.config, archive(tmp_path / "new.zip", later)) == 1
    found = rows(context)
    assert (found["20"].likes, found["20"].retweets) == (40, 3)
    assert found["21"].likes == 0, "what the archive does not say, it does not take away"


@pytest.mark.parametrize(
    ("account", "why"), [("77", "of the account 77, and user_id is 1000001"), (None, "whose it is")]
)
def test_the_archive_of_somebody_else_is_no_history(
    context: BotContext, tmp_path: Path, account: str | None, why: str
) -> None:
    source = archive(tmp_path / "archive.zip", account=account)
    assert take_in(context.db, context.config, source) == 0
    assert rows(context) == {}
    with context.db.transaction() as session:
        (event,) = session.scalars(select(Event).where(Event.kind == "history.skipped"))
    assert why in event.detail["reason"]


def test_gathering_from_an_archive_makes_it_history_too(context: BotContext, tmp_path: Path) -> None:
    archive(tmp_path / "archive.zip")
    sft = SFTConfig.model_validate(
        context.config.sft.model_dump() | {"source": "archive", "path": str(tmp_path / "archive.zip")}
    )
    context.config = context.config.model_copy(update={"sft": sft})
    assert gather(context).posts == 2
    assert gather(context).posts == 2
    assert rows(context).keys() == {"20", "21"}
    assert kinds(context) == ["history.taken_in"]


def test_what_the_bot_made_and_what_is_forgotten_stays_out(context: BotContext, tmp_path: Path) -> None:
    with context.db.transaction() as session:
        checkpoint = give_checkpoint(session)
        draft = give_draft(session, checkpoint, "By the bot itself.", state=DraftState.USED)
        now = clock.now()
        session.add(Post(
            bot_id=BOT, content_gen_prompt="Write.", content=draft.content, is_reply=False, kind=Kind.POST,
            draft_id=draft.draft_id, checkpoint_id=checkpoint.checkpoint_id, persona_version=1, text_hash="x",
            state=PostState.POSTED, x_post_id="20", queued_at=now, due_at=now, post_time=now,
        ))  # fmt: skip
    source = archive(tmp_path / "archive.zip")
    assert take_in(context.db, context.config, source) == 1
    assert rows(context).keys() == {"21"}
    with context.db.transaction() as session:
        forget(session, context.config, ["21"], BY_HAND)
    assert rows(context) == {}
    assert take_in(context.db, context.config, source) == 0
    assert rows(context) == {}


def test_nothing_of_it_is_learnt_from_measured_or_sent(context: BotContext, tmp_path: Path) -> None:
    take_in(context.db, context.config, archive(tmp_path / "archive.zip"))
    with context.db.transaction() as session:
        for table in (Draft, Post, Engagement, Reward):
            assert session.scalar(select(func.count()).select_from(table)) == 0
    assert queue_drafts(context.db, context.config) == 0
    assert due_posts(context.db, context.config) == []
    assert further_batches(context.db, context.config) == 0
    assert measure_due(context.db, context.x, context.config) == 0, "X is not there, and is not asked"


def test_the_bot_does_not_say_it_again(context: BotContext, tmp_path: Path) -> None:
    take_in(context.db, context.config, archive(tmp_path / "archive.zip"))
    with context.db.transaction() as session:
        assert recent_texts(session, BOT) == ["And the second part of it.", "Just setting up my tram map & more."]
        checkpoint = give_checkpoint(session)
        same = give_draft(session, checkpoint, "just setting up my TRAM map & more.")
        give_seen(session, "55")
        answered = give_draft(
            session, checkpoint, "A new answer to it.", kind=Kind.REPLY, target_post_id="55", target_author_id="7"
        )
        other = give_draft(session, checkpoint, "Something that was never said.")
        ids = [draft.draft_id for draft in (same, answered, other)]
    assert queue_drafts(context.db, context.config) == 1
    with context.db.transaction() as session:
        drafts = [session.get_one(Draft, draft_id) for draft_id in ids]
        assert [draft.reject_rule for draft in drafts] == ["already_said", "already_said", None]
        assert "post 20 of the account's archive" in str(drafts[0].reject_reason)
        assert "post 21" in str(drafts[1].reject_reason)
        assert drafts[2].state == DraftState.USED


def test_what_the_bot_says_itself_comes_first_among_what_it_must_not_repeat(
    context: BotContext, tmp_path: Path
) -> None:
    many = [SAID[0] | {"id_str": str(100 + i), "full_text": f"Earlier {i}"} for i in range(RECENT_TEXTS)]
    take_in(context.db, context.config, archive(tmp_path / "archive.zip", many))
    with context.db.transaction() as session:
        checkpoint = give_checkpoint(session)
        for number in range(3):
            give_draft(session, checkpoint, f"Own {number}")
    with context.db.transaction() as session:
        found = recent_texts(session, BOT)
    assert len(found) == RECENT_TEXTS
    assert set(found[:3]) == {"Own 0", "Own 1", "Own 2"}
    assert all(text.startswith("Earlier") for text in found[3:])


def test_a_person_sees_it(
    context: BotContext, tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, config_file = tmp_path / "archive.zip", tmp_path / "explorer.yaml"
    archive(file)
    config_file.write_text(json.dumps(context.config.model_dump(mode="json")))
    monkeypatch.setenv("DATABASE_URL", database_url)
    run = CliRunner()
    told = run.invoke(cli, ["history", str(file), "--config", str(config_file)])
    assert told.exit_code == 0, told.output
    known = "2 earlier posts of the account, from its archive, 12 likes, 3 reposts"
    assert f"2 new or with other counts; {known}" in told.output
    assert known in status_of(context).notes
    archive(file, account="77")
    refused = run.invoke(cli, ["history", str(file), "--config", str(config_file)])
    assert refused.exit_code == 2
    assert "77" in refused.output
    with context.db.transaction() as session:
        assert earlier.summary(session, "another") is None
