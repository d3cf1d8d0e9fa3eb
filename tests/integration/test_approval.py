"""Approval mode: without a person nothing is posted, and what a person said is what happens."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from factories import BOT, give_checkpoint, give_draft, give_persona, give_seen
from sqlalchemy import select, text
from typer.testing import CliRunner

from app import approval, clock
from app.approval import ApprovalError
from app.cli import app as cli
from app.config import SafetyConfig, VibeBotConfig
from app.posting import queue_drafts
from app.safety import TEXT_RULES
from dbs import migrations
from dbs.models import Bot, Checkpoint, Draft, Event, Post
from dbs.session import Database
from dbs.states import DraftState, Kind

LONG = "far too long " * 30


@pytest.fixture
def config(config: VibeBotConfig) -> VibeBotConfig:
    return config.model_copy(update={"safety": SafetyConfig(approval=True)})


@pytest.fixture
def checkpoint(database: Database, bot: Bot) -> Checkpoint:
    with database.transaction() as session:
        give_persona(session)
        return give_checkpoint(session)


def write(database: Database, checkpoint: Checkpoint, content: str, **changes: object) -> Draft:
    with database.transaction() as session:
        return give_draft(session, checkpoint, content, **changes)


def draft(database: Database, like: Draft) -> Draft:
    with database.transaction() as session:
        return session.get_one(Draft, like.draft_id)


def posts(database: Database) -> list[str]:
    with database.transaction() as session:
        return list(session.scalars(select(Post.content).order_by(Post.queued_at)))


def test_nothing_is_queued_before_a_person_approves(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint
) -> None:
    one, other = write(database, checkpoint, "The first text."), write(database, checkpoint, "The second text.")
    assert queue_drafts(database, config) == queue_drafts(database, config) == 0
    with database.transaction() as session:
        assert [item.content for item in approval.waiting(session, BOT)] == ["The first text.", "The second text."]
        approval.approve(session, BOT, one.draft_id)
    assert queue_drafts(database, config) == 1
    assert posts(database) == ["The first text."]
    assert draft(database, one).state == DraftState.USED
    assert not draft(database, one).edited
    assert draft(database, other).state == DraftState.WAITING


def test_an_edited_text_is_posted_as_edited_and_never_learnt_from(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint
) -> None:
    written = write(database, checkpoint, "As sampled.")
    queue_drafts(database, config)
    with database.transaction() as session:
        approval.approve(session, BOT, written.draft_id, "  As a person would say it. ")
    queue_drafts(database, config)
    with database.transaction() as session:
        post = session.scalars(select(Post)).one()
        assert (post.content, post.edited) == ("As a person would say it.", True)
        assert session.scalars(select(Event.kind)).all() == ["draft.approved"]


def test_what_a_person_rejects_is_never_posted_and_costs_the_policy_nothing(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint
) -> None:
    written = write(database, checkpoint, "Not this one.")
    queue_drafts(database, config)
    with database.transaction() as session:
        approval.reject(session, BOT, written.draft_id, "off topic")
    assert queue_drafts(database, config) == 0
    kept = draft(database, written)
    assert (kept.state, kept.reject_rule, kept.reject_reason) == (DraftState.REJECTED, approval.PERSON, "off topic")
    assert approval.PERSON not in TEXT_RULES


def test_what_waits_too_long_is_given_up(database: Database, config: VibeBotConfig, checkpoint: Checkpoint) -> None:
    late = timedelta(minutes=config.loop.max_target_age + 1)
    with database.transaction() as session:
        give_seen(session, "5", summons=True, created_at=clock.now() - late)
    old = write(database, checkpoint, "To an old post.", kind=Kind.REPLY, target_post_id="5", target_author_id="7")
    new = write(database, checkpoint, "Of its own.")
    queue_drafts(database, config)
    queue_drafts(database, config)
    assert (draft(database, old).state, draft(database, old).reject_rule) == (DraftState.REJECTED, "too_late")
    assert draft(database, new).state == DraftState.WAITING
    with database.transaction() as session, pytest.raises(ApprovalError, match=r"does not wait any more.*nobody"):
        approval.approve(session, BOT, old.draft_id)


def test_what_cannot_be_done_is_said_and_changes_nothing(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint
) -> None:
    written = write(database, checkpoint, "A text.")
    with (
        database.transaction() as session,
        pytest.raises(ApprovalError, match="does not wait any more, it is approved"),
    ):
        approval.approve(session, BOT, written.draft_id)
    queue_drafts(database, config)
    with database.transaction() as session, pytest.raises(ApprovalError, match="has none with this id"):
        approval.reject(session, "another", written.draft_id)
    for wrong in (LONG, "  "):
        with database.transaction() as session, pytest.raises(ApprovalError, match="1 to 280"):
            approval.approve(session, BOT, written.draft_id, wrong)
    with database.transaction() as session, pytest.raises(ApprovalError, match="no waiting drafts"):
        approval.find(session, BOT, "zzz")
    assert draft(database, written).state == DraftState.WAITING
    assert draft(database, written).content == "A text."


def test_without_approval_mode_nobody_is_waited_for(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint
) -> None:
    write(database, checkpoint, "The rules are enough.")
    assert queue_drafts(database, config.model_copy(update={"safety": SafetyConfig()})) == 1


def test_an_older_schema_takes_what_waits_for_withheld(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint, database_url: str
) -> None:
    waits, approved = write(database, checkpoint, "It waits."), write(database, checkpoint, "It may go.")
    queue_drafts(database, config)
    with database.transaction() as session:
        approval.approve(session, BOT, approved.draft_id)
    migrations.downgrade(database_url, "0002")
    with database.engine.connect() as connection:
        states = dict(connection.execute(text("SELECT draft_id, state FROM drafts")).all())
    assert states == {waits.draft_id: "rejected", approved.draft_id: "approved"}
    migrations.upgrade(database_url)
    migrations.check(database_url)


@pytest.fixture
def command(database_url: str, config: VibeBotConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    file = tmp_path / "explorer.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    monkeypatch.setenv("EXPLORER_CONFIG", str(file))
    monkeypatch.setenv("DATABASE_URL", database_url)
    return CliRunner()


def test_the_command_line_shows_what_waits_and_takes_an_answer(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint, command: CliRunner
) -> None:
    with database.transaction() as session:
        give_seen(session, "5", summons=True)
        give_seen(session, "6")
    first = write(database, checkpoint, "An answer.", kind=Kind.REPLY, target_post_id="5", target_author_id="7")
    others = [write(database, checkpoint, f"Number {number} [of] many.", topic="trams") for number in range(4)]
    beyond_us = write(database, checkpoint, "Unasked.", kind=Kind.REPLY, target_post_id="6", target_author_id="7")
    queue_drafts(database, config)
    assert draft(database, beyond_us).reject_rule == "capability"  # no person is asked for what X would refuse
    shown = json.loads(command.invoke(cli, ["approve", "--json"]).stdout)
    assert shown[0]["answered"].startswith("Post 5")
    assert len(shown) == 5
    assert "5 draft(s) wait" in command.invoke(cli, ["approve", "--list"]).stdout
    assert command.invoke(cli, ["approve", str(first.draft_id)[:13]]).exit_code == 0
    walked = command.invoke(cli, ["approve"], input="a\ne\nChanged by hand.\nr\nq\n")
    assert walked.exit_code == 0
    assert "Number 0 [of] many." in walked.stdout
    assert [draft(database, other).state for other in others] == [
        DraftState.APPROVED, DraftState.APPROVED, DraftState.REJECTED, DraftState.WAITING,
    ]  # fmt: skip
    assert command.invoke(cli, ["reject", str(others[3].draft_id), "--reason", "dull"]).exit_code == 0
    failed = command.invoke(cli, ["approve", str(others[3].draft_id)])
    assert failed.exit_code == 1
    assert "no waiting drafts" in failed.stderr
    queue_drafts(database, config)
    assert set(posts(database)) == {"An answer.", "Number 0 [of] many.", "Changed by hand."}
