"""`explorer trace`: one id leads from a timeline post to the checkpoint that learnt from the answer."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from factories import BOT, give_checkpoint, give_draft, give_persona, give_seen
from typer.testing import CliRunner, Result

from app import clock
from app.cli import app
from app.config import VibeBotConfig
from dbs.models import Bot, Checkpoint, Engagement, Judgement, Post, Reward, TrainingRun, TrainingSample
from dbs.session import Database
from dbs.states import CheckpointKind, DraftState, Kind, PostState, RunKind, RunState

TARGET = "5001"


@pytest.fixture
def lived(database: Database, bot: Bot) -> dict[str, str]:
    """An answered post, from its reading to its run; the ids of what it left, and of a post of the bot's own."""
    now = clock.now()
    with database.transaction() as session:
        give_persona(session)
        author = give_checkpoint(session)
        give_seen(session, TARGET)
        session.add(Judgement(
            bot_id=BOT, x_post_id=TARGET, judge_version="1", newsworthy=1.5, substantive=0.5, score=2.0, selected=True,
            selection_chance=0.2, selected_by="score", judged_at=now,
        ))  # fmt: skip
        facts = {"kind": Kind.REPLY, "target_post_id": TARGET, "target_author_id": "7"}
        refused = give_draft(session, author, "Too long.", state=DraftState.REJECTED, reject_rule="too_long",
                             reject_reason="300 characters", **facts)  # fmt: skip
        draft = give_draft(session, author, "Where was that?", state=DraftState.USED, attempt=2, **facts)
        alone = give_draft(session, author, "Counted 41 swifts.")
        post = Post(
            bot_id=BOT, content_gen_prompt="Write.", content=draft.content, is_reply=True, draft_id=draft.draft_id,
            checkpoint_id=author.checkpoint_id, persona_version=1, text_hash=uuid.uuid4().hex, state=PostState.POSTED,
            x_post_id="6001", queued_at=now, due_at=now, post_time=now, **facts,
        )  # fmt: skip
        session.add(post)
        session.flush()
        session.add(Engagement(post_id=post.post_id, bot_id=BOT, retrieval_time=now + timedelta(hours=1), likes=3,
                               retweets=None, quotes=0, replies=1, planned_age_s=3600, age_s=3660.0))  # fmt: skip
        session.add(Reward(draft_id=draft.draft_id, bot_id=BOT, reward_version="plain-1", reward=0.75, terms={},
                           computed_at=now))  # fmt: skip
        made: Checkpoint = give_checkpoint(session, kind=CheckpointKind.PPO, is_current=False, is_reference=False,
                                           parent_id=author.checkpoint_id)  # fmt: skip
        run = TrainingRun(bot_id=BOT, kind=RunKind.PPO, state=RunState.SUCCEEDED, fence=1, started_at=now,
                          checkpoint_id=made.checkpoint_id)  # fmt: skip
        session.add(run)
        session.flush()
        session.add(TrainingSample(run_id=run.run_id, draft_id=draft.draft_id, bot_id=BOT, held_out=False))
        return {"refused": f"{refused.draft_id}", "draft": f"{draft.draft_id}", "post": f"{post.post_id}",
                "alone": f"{alone.draft_id}", "run": f"{run.run_id}", "made": f"{made.checkpoint_id}"}  # fmt: skip


@pytest.fixture
def explorer(
    config: VibeBotConfig, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    file = tmp_path / "explorer.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    monkeypatch.setenv("DATABASE_URL", database_url)
    return lambda *arguments: CliRunner().invoke(app, ["trace", *arguments, "--config", str(file)])


def test_every_id_of_a_trace_leads_to_all_of_it(lived: dict[str, str], explorer: Callable[..., Result]) -> None:
    wanted = [TARGET, lived["draft"], lived["refused"], lived["post"], "6001"]
    told = [json.loads(explorer(one, "--json").stdout) for one in wanted]
    assert [one == told[0] for one in told] == [True] * 5
    assert told[0]["trace"] == TARGET
    steps = told[0]["steps"]
    assert [step["what"] for step in steps] == [
        "seen", "judged", "drafted", "drafted", "queued", "posted", "measured", "rewarded", "learnt"
    ]  # fmt: skip
    ids = [step["id"][1] for step in steps]
    assert [ids[0], *ids[2:]] == [
        TARGET, lived["refused"], lived["draft"], lived["post"], "6001", lived["post"], lived["draft"], lived["run"]
    ]  # fmt: skip
    assert "300 characters" in steps[2]["detail"]
    assert steps[6]["detail"] == "at 61 min: 3 likes, 1 replies, 0 quotes"  # what X did not say is not 0
    assert lived["made"] in steps[8]["detail"]
    assert (steps[8]["clock"], steps[7]["clock"]) == ("wall", "world")


def test_what_the_bot_said_by_itself_is_a_trace_of_its_own(
    lived: dict[str, str], explorer: Callable[..., Result]
) -> None:
    told = json.loads(explorer(lived["alone"], "--json").stdout)
    assert told["trace"] == lived["alone"]
    assert [step["what"] for step in told["steps"]] == ["drafted"]
    assert "trace" in explorer(lived["alone"]).stdout


@pytest.mark.parametrize("wanted", ["77", "no-id", str(uuid.UUID(int=1))])
def test_an_unknown_id_is_named(lived: dict[str, str], explorer: Callable[..., Result], wanted: str) -> None:
    result = explorer(wanted)
    assert result.exit_code == 2
    assert wanted in result.output
