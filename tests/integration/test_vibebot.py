"""VibeBot, the seed's class: the whole bot in one object, against a sandbox and with a real language model."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sandbox_server import Server
from sqlalchemy import create_engine, select, text

from app import clock
from app.config import BudgetConfig, LoopConfig, ModelConfig, PersonaConfig, SafetyConfig, Secrets, VibeBotConfig
from app.local.observer import Observer, duplicates
from app.local.servers import EmbeddedPostgres
from app.loops import PutOff
from app.reading import read_timeline
from app.vibebot import VibeBot
from dbs.models import Cursor, Draft, Engagement, Post, TimelinePost
from dbs.session import Database
from dbs.states import DraftState, PostState, SeenState

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SPEED = 900.0  # a quarter of an hour in a second


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory, patch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("sandbox"), speed=SPEED).start()
    patch.setenv(clock.VARIABLE, server.clock)
    yield server
    server.kill()


@pytest.fixture(scope="module")
def database(postgres: EmbeddedPostgres) -> Iterator[Database]:
    name = f"vibebot_{uuid.uuid4().hex}"
    admin = create_engine(postgres.url("postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE explorer_template"))
    admin.dispose()
    database = Database(postgres.url(name))
    yield database
    database.close()


@pytest.fixture(scope="module")
def config(sandbox: Server, packaged_model: Path, tmp_path_factory: pytest.TempPathFactory) -> VibeBotConfig:
    return VibeBotConfig(
        user_id="1000001",
        accounts_to_follow=[*Observer(sandbox.base_url).handles(6), "nobody_at_all"],
        persona=PersonaConfig(name="Explorer", description="A field reporter.", tone="brief", interests=["gardens"]),
        loop=LoopConfig(selection_share=0.5, max_replies_per_turn=3, max_target_age=3 * 1440),
        model=ModelConfig(hf_repo_id=str(packaged_model)),
        budget=BudgetConfig(tier="enterprise", max_usd_per_day=100, max_usd_per_month=1000),
        safety=SafetyConfig(min_pause=0),
        live=True,
        data_dir=str(tmp_path_factory.mktemp("data")),
    )


@pytest.fixture(scope="module")
def secrets(sandbox: Server) -> Secrets:
    return Secrets(
        x_base_url=sandbox.base_url,
        x_api_key="sandbox-api-key",
        x_api_secret="sandbox-api-secret",
        x_access_token="1000001-sandbox-access-token",
        x_access_token_secret="sandbox-access-token-secret",
    )


@pytest.fixture(scope="module")
def bot(config: VibeBotConfig, secrets: Secrets, database: Database) -> VibeBot:
    return VibeBot(config, db=database, secrets=secrets)


def test_the_accounts_are_loaded_and_followed_once(bot: VibeBot, sandbox: Server, config: VibeBotConfig) -> None:
    assert len(bot.community_db.followed()) == 6
    requests_before = Observer(sandbox.base_url).api_calls()
    VibeBot(config, db=bot.db, x_interactor=bot.x_interactor)
    # Only the handle that X does not know is asked for again.
    assert Observer(sandbox.base_url).api_calls() == requests_before + 1
    assert "llm" not in vars(bot)  # nothing was written, so no model was loaded


def test_what_would_be_said_is_shown_and_not_posted(bot: VibeBot, sandbox: Server) -> None:
    answers, ignored = bot.timeline_interface(reply_to_tweets=False)
    assert answers
    assert ignored
    assert all(answer["reply"] and answer["state"] == "withheld" for answer in answers)
    assert not [write for write in Observer(sandbox.base_url).writes() if write.published]
    with bot.db.transaction() as session:
        withheld = session.scalars(select(Draft).where(Draft.reject_rule == "withheld")).all()
        assert {draft.state for draft in withheld} == {DraftState.REJECTED}
        assert len(withheld) == len(answers)


def test_what_is_said_is_posted_once_and_measured(bot: VibeBot, sandbox: Server) -> None:
    answers: list[dict[str, object]] = []
    for _ in range(5):  # a small model's drafts may all be refused in one turn
        answers += bot.timeline_interface()[0]
        if any(answer["state"] == PostState.POSTED for answer in answers):
            break
        time.sleep(2)
    posted = {answer["x_post_id"] for answer in answers if answer["state"] == PostState.POSTED}
    writes = [write for write in Observer(sandbox.base_url).writes() if write.published]
    assert {write.x_post_id for write in writes} == posted != set()
    assert duplicates(writes) == 0
    time.sleep(16 * 60 / SPEED)
    bot.get_engagement_metrics()
    with bot.db.transaction() as session:
        rows = session.scalars(select(Engagement)).all()
        post = session.scalars(select(Post).where(Post.x_post_id.in_(posted)).limit(1)).one()
    assert {row.post_id for row in rows} >= {post.post_id}
    assert all(row.likes is not None and row.age_s >= 900 for row in rows)
    history = bot.engagement_db.history(post.post_id)
    assert [row.planned_age_s for row in history] == [900]
    assert post.content_gen_prompt
    assert post.is_reply == (post.kind == "reply")


def test_nothing_is_read_twice_across_restarts(bot: VibeBot, config: VibeBotConfig, secrets: Secrets) -> None:
    with bot.db.transaction() as session:
        before = session.scalars(select(Cursor.value).where(Cursor.name == "timeline")).one()
    again = VibeBot(config, db=bot.db, secrets=secrets)
    seen = again.x_interactor.get_timeline(config.user_id)
    assert all(int(tweet.x_post_id) > int(before) for tweet in seen)


def test_a_timeline_is_not_read_before_anybody_is_known(bot: VibeBot, config: VibeBotConfig) -> None:
    with pytest.raises(PutOff, match="no member"):  # so that its turn comes again soon, and not after a whole interval
        read_timeline(bot.db, bot.x_interactor, config.model_copy(update={"bot_id": "nobody"}))


def test_posts_too_old_are_never_answered(bot: VibeBot) -> None:
    with bot.db.transaction() as session:
        row = session.scalars(select(TimelinePost).where(TimelinePost.state == SeenState.IGNORED).limit(1)).one()
        row.state, row.created_at = SeenState.SEEN, clock.now() - timedelta(days=4)
        x_post_id = row.x_post_id
    assert x_post_id not in bot.llm.judge_seen()
    with bot.db.transaction() as session:
        assert session.get_one(TimelinePost, ("explorer", x_post_id)).state == SeenState.EXPIRED


def test_the_persona_is_a_version_that_drafts_name(bot: VibeBot, config: VibeBotConfig) -> None:
    assert bot.persona == "A field reporter."
    bot.persona = "A baker who reads the news."
    assert VibeBot(config, db=bot.db, x_interactor=bot.x_interactor).persona == "A baker who reads the news."
    draft_id = next(filter(None, (bot.llm.draft_own_post() for _ in range(5))))
    with bot.db.transaction() as session:
        assert session.get_one(Draft, draft_id).persona_version == 2
    with pytest.raises(ValueError, match="description"):
        bot.persona = ""


def test_members_it_met_are_summarised(bot: VibeBot) -> None:
    assert bot.llm.summarise_members(limit=4) >= 1
    with bot.db.transaction() as session:
        summaries = session.execute(text("SELECT account_summary FROM community_db WHERE summary_at IS NOT NULL")).all()
    assert any(summary for (summary,) in summaries)
