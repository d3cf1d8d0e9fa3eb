"""A person chooses between two drafts: what is kept of that, and that nothing is ever sent."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from factories import BOT, give_offer
from offers import ONE, choose, draft_of, due_now, offer, preference, row
from scripted_x import ScriptedX
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from typer.testing import CliRunner

from app import clock, copilot
from app.cli import app as cli
from app.config import VibeBotConfig
from app.connectors.community_db import CommunityDB
from app.copilot import CopilotError
from app.data.forgetting import forget
from app.posting import due_posts, queue_drafts, send_post
from app.readiness import fresh_drafts
from app.safety import TEXT_RULES
from app.x.types import XUser
from app.x_interactor import XInteractor
from dbs import migrations
from dbs.models import Checkpoint, Membership, Post, Preference
from dbs.session import Database
from dbs.states import DraftState, PostState, SentBy


def test_both_drafts_are_shown_with_what_they_answer(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint
) -> None:
    drafts = offer(database, checkpoint)
    with database.transaction() as session:
        CommunityDB(session, BOT).upsert([XUser(user_id="7", handle="ada")])
        give_offer(session, checkpoint, "56", "Its fellow is still being written.", author_id="8")
        (shown,) = copilot.offers(session, config)
    assert (shown.handle, shown.x_post_id) == ("ada", "55")
    assert shown.text.startswith("Post 55")
    assert [(one.draft_id, one.content) for one in shown.drafts] == [(d.draft_id, d.content) for d in drafts]
    assert shown.until - shown.posted_at == timedelta(minutes=config.loop.max_target_age)


def test_a_choice_is_kept_and_nothing_is_ever_sent(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint, x: ScriptedX, interactor: XInteractor
) -> None:
    chosen, other = offer(database, checkpoint)
    assert queue_drafts(database, config) == 0
    post_id = choose(database, config, chosen)
    kept = row(database, post_id)
    assert (kept.state, kept.sent_by, kept.content, kept.edited) == (PostState.AWAITED, SentBy.PERSON, ONE, False)
    assert (kept.target_post_id, kept.draft_id, kept.x_post_id) == ("55", chosen.draft_id, None)
    assert kept.expires_at - kept.queued_at == timedelta(minutes=config.loop.copilot_wait)
    assert (draft_of(database, chosen).state, draft_of(database, chosen).approved_at is None) == (
        DraftState.USED,
        False,
    )
    left = draft_of(database, other)
    assert (left.state, left.reject_rule) == (DraftState.REJECTED, copilot.NOT_CHOSEN)
    assert copilot.NOT_CHOSEN not in TEXT_RULES
    pair = preference(database)
    assert (pair.chosen_draft_id, pair.rejected_draft_id) == (chosen.draft_id, other.draft_id)
    assert (pair.target_post_id, pair.edited_text, pair.chosen_by, pair.run_id) == ("55", None, "console", None)
    due_now(database)
    assert queue_drafts(database, config) == 0
    assert due_posts(database, config) == []
    assert send_post(database, interactor, config, post_id) is None
    assert x.requests == []


def test_what_a_person_sends_cannot_come_into_the_outbox(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint
) -> None:
    post_id = choose(database, config, offer(database, checkpoint)[0])
    with pytest.raises(IntegrityError, match="what_a_person_sends_is_never_sent"), database.transaction() as session:
        session.get_one(Post, post_id).state = PostState.QUEUED


def test_a_choice_is_made_once(database: Database, config: VibeBotConfig, checkpoint: Checkpoint) -> None:
    chosen, other = offer(database, checkpoint)
    choose(database, config, chosen)
    with pytest.raises(CopilotError, match=r"not offered any more, it is used"):
        choose(database, config, chosen)
    with pytest.raises(CopilotError, match=r"it is rejected \(a person chose the other draft\)"):
        choose(database, config, other)
    with pytest.raises(CopilotError, match="no drafts for it"), database.transaction() as session:
        copilot.dismiss(session, BOT, "55")
    with pytest.raises(CopilotError, match="offers none with this id"), database.transaction() as session:
        copilot.choose(session, config.model_copy(update={"bot_id": "other"}), other.draft_id, "x", by="console")
    with database.transaction() as session:
        assert len(session.scalars(select(Post)).all()) == 1


def test_what_a_person_changed_is_what_was_chosen(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint
) -> None:
    chosen, _ = offer(database, checkpoint)
    post_id = choose(database, config, chosen, "  Which bridge, Ada? ")
    assert (row(database, post_id).content, row(database, post_id).edited) == ("Which bridge, Ada?", True)
    assert draft_of(database, chosen).edited
    assert preference(database).edited_text == "Which bridge, Ada?"


def test_the_disclosure_is_filled_in_too(database: Database, config: VibeBotConfig, checkpoint: Checkpoint) -> None:
    safety = config.safety.model_copy(update={"disclosure": "(automated)"})
    config = config.model_copy(update={"safety": safety})
    chosen, _ = offer(database, checkpoint)
    with pytest.raises(CopilotError, match=r"safety\.disclosure"):
        choose(database, config, chosen, "x" * 275)
    assert row(database, choose(database, config, chosen)).content == f"{ONE}\n\n(automated)"
    assert draft_of(database, chosen).content == ONE


def test_what_cannot_be_chosen_is_said_and_changes_nothing(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint
) -> None:
    chosen, _ = offer(database, checkpoint)
    for wrong in ("far too long " * 30, "  "):
        with pytest.raises(CopilotError, match="1 to 280"):
            choose(database, config, chosen, wrong)
    with database.transaction() as session:
        CommunityDB(session, BOT).upsert([XUser(user_id="7", handle="ada")])
        CommunityDB(session, BOT).meet(["7"])
        session.get_one(Membership, (BOT, "7")).opted_out_at = clock.now()
    with pytest.raises(CopilotError, match="asked the bot to stop"):
        choose(database, config, chosen)
    assert draft_of(database, chosen).state == DraftState.OFFERED
    with database.transaction() as session:
        assert session.scalars(select(Preference)).all() == []


def test_both_may_be_dismissed_and_that_prefers_neither(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint
) -> None:
    drafts = offer(database, checkpoint)
    with database.transaction() as session:
        copilot.dismiss(session, BOT, "55", "off topic")
    kept = [draft_of(database, draft) for draft in drafts]
    assert {(draft.state, draft.reject_rule, draft.reject_reason) for draft in kept} == {
        (DraftState.REJECTED, "person", "off topic")
    }
    with database.transaction() as session:
        assert session.scalars(select(Preference)).all() == []
        assert fresh_drafts(session, config) == 0  # nothing that a run could learn from


def test_what_nobody_chooses_in_time_is_given_up(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint
) -> None:
    late = clock.now() - timedelta(minutes=config.loop.max_target_age + 1)
    drafts = offer(database, checkpoint, created_at=late)
    queue_drafts(database, config)
    assert [draft_of(database, draft).reject_rule for draft in drafts] == ["too_late", "too_late"]
    assert "nobody chose it" in str(draft_of(database, drafts[0]).reject_reason)


def test_the_author_counts_as_answered_meanwhile(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint
) -> None:
    one, other = offer(database, checkpoint), offer(database, checkpoint, "56")
    choose(database, config, one[0])
    with pytest.raises(CopilotError, match="cooldown"):
        choose(database, config, other[0])


def test_a_forgotten_post_takes_its_drafts_its_choice_and_its_wait_along(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint
) -> None:
    post_id = choose(database, config, offer(database, checkpoint)[0])
    waiting = offer(database, checkpoint, "56", author_id="8")
    with database.transaction() as session:
        assert forget(session, config, ["55", "56"], "by hand").unsent == 1
    assert row(database, post_id).state == PostState.REJECTED
    kept = draft_of(database, waiting[0])
    assert (kept.state, kept.content) == (DraftState.REJECTED, "")
    with database.transaction() as session:
        assert session.scalars(select(Preference)).all() == []
        assert copilot.offers(session, config) == []


def test_an_older_schema_takes_what_waits_for_withheld_and_never_learns_from_a_persons_posts(
    database: Database,
    config: VibeBotConfig,
    checkpoint: Checkpoint,
    database_url: str,
    connect_sql: Callable[[str], list],
) -> None:
    posted = choose(database, config, offer(database, checkpoint)[0])
    waits = choose(database, config, offer(database, checkpoint, "56", author_id="8")[0])
    offer(database, checkpoint, "57", author_id="9")
    with database.transaction() as session:
        session.get_one(Post, posted).state = PostState.POSTED
    migrations.downgrade(database_url, "0003")
    posts = {
        post_id: (state, edited) for post_id, state, edited in connect_sql("SELECT post_id, state, edited FROM bot_db")
    }
    assert posts == {posted: ("posted", True), waits: ("rejected", True)}
    states = [state for (state,) in connect_sql("SELECT state FROM drafts ORDER BY created_at, attempt")]
    assert "offered" not in states
    migrations.upgrade(database_url)
    migrations.check(database_url)


@pytest.fixture
def connect_sql(database: Database) -> Callable[[str], list]:
    def ask(statement: str) -> list:
        with database.engine.connect() as connection:
            return list(connection.execute(text(statement)).all())

    return ask


def test_the_status_says_what_waits(
    database: Database,
    database_url: str,
    config: VibeBotConfig,
    checkpoint: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "explorer.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    monkeypatch.setenv("EXPLORER_CONFIG", str(file))
    monkeypatch.setenv("DATABASE_URL", database_url)
    choose(database, config, offer(database, checkpoint)[0])
    offer(database, checkpoint, "56", author_id="8")
    shown = " ".join(CliRunner().invoke(cli, ["status"]).stdout.split())
    assert "1 post(s) wait for a person to choose a draft, and 1 chosen answer(s) to be seen on the timeline" in shown
