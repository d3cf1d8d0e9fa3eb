"""To whom, how often and when: caps that a bot calling for ever runs into, pauses, quiet hours, the disclosure."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from factories import BOT, give_checkpoint, give_draft, give_persona, give_seen
from sqlalchemy import select
from typer.testing import CliRunner

from app import clock, conduct, loops
from app.cli import app as cli
from app.config import SafetyConfig, Secrets, VibeBotConfig
from app.connectors.community_db import CommunityDB
from app.posting import due_posts, queue_drafts, send_post
from app.x.types import XUser
from app.x_interactor import XInteractor
from dbs.models import Bot, Checkpoint, Draft, Post
from dbs.session import Database
from dbs.states import DraftState, Kind, PostState

OTHER_BOT = "77"
KEYS = Secrets(
    x_api_key="key", x_api_secret="secret", x_access_token="1000001-token", x_access_token_secret="token-secret"
)


@pytest.fixture
def checkpoint(database: Database, bot: Bot) -> Checkpoint:
    with database.transaction() as session:
        give_persona(session)
        return give_checkpoint(session)


def with_safety(config: VibeBotConfig, **safety: object) -> VibeBotConfig:
    return config.model_copy(update={"safety": SafetyConfig(**{"min_pause": 0, **safety})})


def quiet_now(**shift: int) -> str:
    """Quiet hours from an hour ago to in an hour, in UTC."""
    now = clock.now() + timedelta(**shift)
    return f"{now - timedelta(hours=1):%H:%M}-{now + timedelta(hours=1):%H:%M}"


def called(database: Database, checkpoint: Checkpoint, number: int) -> None:
    """Another bot calls ours in a conversation of its own, and an answer is written."""
    with database.transaction() as session:
        post = give_seen(session, str(1000 + number), OTHER_BOT, summons=True)
        give_draft(
            session, checkpoint, f"Answer {number} of many to the same account.", kind=Kind.REPLY,
            target_post_id=post.x_post_id, target_author_id=OTHER_BOT,
        )  # fmt: skip


def write(database: Database, checkpoint: Checkpoint, count: int) -> None:
    with database.transaction() as session:
        for number in range(count):
            give_draft(session, checkpoint, f"Text {number} about something else altogether.")


def due(database: Database) -> list[object]:
    with database.transaction() as session:
        return list(session.scalars(select(Post.due_at).order_by(Post.due_at)))


def test_a_bot_that_calls_for_ever_is_answered_a_few_times_a_day(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint
) -> None:
    config = with_safety(config, max_replies_per_author=3)
    for number in range(8):
        called(database, checkpoint, number)
        queue_drafts(database, config)
    with database.transaction() as session:
        refused = session.scalars(select(Draft).where(Draft.state == DraftState.REJECTED)).all()
        assert len(session.scalars(select(Post)).all()) == 3
    assert {draft.reject_rule for draft in refused} == {"author_cap"}
    assert refused[0].reject_reason == "the author had 3 answers in the last 24 hours"
    with database.transaction() as session:
        for post in session.scalars(select(Post)):
            post.queued_at = clock.now() - timedelta(hours=25)
    called(database, checkpoint, 9)
    assert queue_drafts(database, config) == 1


def test_posts_are_paused_between_and_never_like_clockwork(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint
) -> None:
    write(database, checkpoint, 6)
    assert queue_drafts(database, with_safety(config, min_pause=2)) == 6
    times = due(database)
    pauses = [(later - sooner).total_seconds() / 60 for sooner, later in pairwise(times)]
    assert all(2 <= pause <= 6 for pause in pauses)
    assert len({round(pause, 3) for pause in pauses}) == 5


def test_a_bot_that_was_silent_need_not_wait(database: Database, config: VibeBotConfig, checkpoint: Checkpoint) -> None:
    config = with_safety(config, min_pause=2)
    write(database, checkpoint, 1)
    queue_drafts(database, config)
    with database.transaction() as session:
        session.scalars(select(Post)).one().due_at = clock.now() - timedelta(hours=1)
        assert conduct.next_slot(session, config, random.Random(1)) <= clock.now()


def test_a_post_that_is_looked_for_tomorrow_holds_nothing_up(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint
) -> None:
    config = with_safety(config, min_pause=2)
    write(database, checkpoint, 1)
    queue_drafts(database, config)
    with database.transaction() as session:
        lost = session.scalars(select(Post)).one()
        lost.state, lost.due_at = PostState.UNCONFIRMED, clock.now() + timedelta(days=1)
        session.flush()
        assert conduct.next_slot(session, config, random.Random(1)) <= clock.now() + timedelta(minutes=6)


def test_what_is_written_in_quiet_hours_waits_for_their_end(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint
) -> None:
    config = with_safety(config, quiet_hours=quiet_now())
    write(database, checkpoint, 1)
    assert queue_drafts(database, config) == 1
    (moment,) = due(database)
    assert timedelta(minutes=58) < moment - clock.now() <= timedelta(minutes=60)
    assert due_posts(database, config) == []


def test_a_retry_does_not_go_out_in_quiet_hours(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint
) -> None:
    write(database, checkpoint, 1)
    queue_drafts(database, with_safety(config))
    assert due_posts(database, with_safety(config, quiet_hours=quiet_now())) == []
    assert len(due_posts(database, with_safety(config, quiet_hours=quiet_now(hours=6)))) == 1


def test_the_disclosure_stands_below_what_was_written(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint
) -> None:
    write(database, checkpoint, 1)
    queue_drafts(database, with_safety(config, disclosure="(automated)"))
    with database.transaction() as session:
        post = session.scalars(select(Post)).one()
        assert post.content == "Text 0 about something else altogether.\n\n(automated)"
        assert session.scalars(select(Draft)).one().content == "Text 0 about something else altogether."
        assert post.state == PostState.QUEUED


def test_a_text_without_room_for_the_disclosure_is_refused(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint
) -> None:
    with database.transaction() as session:
        give_draft(session, checkpoint, "tram " * 55, edited=True)
    assert queue_drafts(database, with_safety(config, disclosure="(automated)")) == 0
    with database.transaction() as session:
        assert session.scalars(select(Draft)).one().reject_rule == "too_long"


def posted_state(database: Database) -> tuple[str, str | None]:
    with database.transaction() as session:
        post = session.scalars(select(Post)).one()
        return post.state, post.state_reason


def test_a_policy_set_by_a_person_holds_back_what_waits(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint, database_url: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with database.transaction() as session:
        CommunityDB(session, BOT).upsert([XUser(user_id=OTHER_BOT, handle="Chatty")])
    called(database, checkpoint, 1)
    assert queue_drafts(database, config) == 1
    (tmp_path / "explorer.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    monkeypatch.setenv("DATABASE_URL", database_url)
    where = ["--config", str(tmp_path / "explorer.yaml")]
    done = CliRunner().invoke(cli, ["community", "policy", "@chatty", "watch", *where])
    assert done.exit_code == 0, done.output
    listed = json.loads(CliRunner().invoke(cli, ["community", "list", "--json", *where]).output)
    assert [(row["handle"], row["policy"]) for row in listed] == [("Chatty", "watch")]
    unknown = CliRunner().invoke(cli, ["community", "policy", "nobody", "block", *where])
    assert (unknown.exit_code, "no user with the handle 'nobody'" in unknown.output) == (1, True)
    with database.transaction() as session:
        (post_id,) = session.scalars(select(Post.post_id))
    nowhere = XInteractor(config.user_id, bot_id=BOT, live=True, secrets=KEYS, db=database)  # a request would fail
    assert send_post(database, nowhere, config, post_id) == PostState.REJECTED
    assert posted_state(database) == (PostState.REJECTED, "the author's policy is watch")


def test_a_pause_holds_what_has_not_left(database: Database, config: VibeBotConfig, checkpoint: Checkpoint) -> None:
    write(database, checkpoint, 1)
    queue_drafts(database, config)
    with database.transaction() as session:
        loops.ensure(session, config)
        loops.pause(session, BOT, "a test")
        (post_id,) = session.scalars(select(Post.post_id))
    nowhere = XInteractor(config.user_id, bot_id=BOT, live=True, secrets=KEYS, db=database)  # a request would fail
    assert due_posts(database, config) == []
    assert send_post(database, nowhere, config, post_id) is None
    assert posted_state(database) == (PostState.QUEUED, None)
    with database.transaction() as session:
        loops.resume(session, BOT)
    assert due_posts(database, config) == [post_id]
