"""Three I/O workers on the smallest tier's windows, for an hour of a world that runs thirty times as fast.

There is more to do than the windows allow, so how much of them is used is the workers' doing.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from factories import BOT, give_checkpoint, give_draft
from sandbox_server import Server
from sqlalchemy import func, insert, inspect, select
from sqlalchemy.orm import Session
from waiting import wait_for

from app import clock, loops
from app.connectors.community_db import CommunityDB
from app.context import BotContext
from app.loading import load_config, load_secrets
from app.local.servers import EmbeddedRedis
from app.local.stack import bot_services
from app.sandbox import communityfile
from app.sandbox.settings import Keys
from app.schedule import LoopName
from app.text import text_hash
from app.x.snowflake import snowflake_time
from app.x.types import XUser
from app.x_interactor import XInteractor
from dbs.models import Checkpoint, Draft, LedgerEntry, Post
from dbs.session import Database
from dbs.states import DraftState, FollowState, Kind, PostState
from workers.supervisor import Supervisor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

WORKERS, SPEED = 3, 30.0
HOUR = timedelta(hours=1)
FOLLOWED, QUEUED = 12, 14
IN_TIME = timedelta(minutes=6)  # twelve seconds of a wall clock
# What has work at every moment of the hour: a backlog of measuring, and two loops whose turn is always due.
BOUND = {"posts_by_ids": 15, "home_timeline": 5, "mentions": 10}
WORKING = {
    LoopName.TIMELINE,
    LoopName.MENTIONS,
    LoopName.PUBLISHING,
    LoopName.RECONCILIATION,
    LoopName.ENGAGEMENT,
}


@dataclass
class Fleet:
    """Three workers and beat, beside a sandbox. `began` is the world's time when they were started."""

    directory: Path
    supervisor: Supervisor
    server: Server
    db: Database
    began: datetime

    def tend(self) -> None:
        self.supervisor.tend()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A sandbox with two weeks behind it, whose members the bot follows, as it could before its tier took that away."""
    community = yaml.safe_load((Path(communityfile.__file__).parent / "communities/default.yaml").read_text())
    file = tmp_path / "community.yaml"
    file.write_text(yaml.safe_dump({**community, "history_hours": 336}))
    server = Server(tmp_path / "sandbox", speed=SPEED, options=("--community", str(file))).start()
    for member in server.control("members")[:FOLLOWED]:
        server.client.follow_user(member["id"], user_auth=True)
    yield server
    server.kill()


@pytest.fixture
def fleet(
    tmp_path: Path, database: Database, database_url: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Fleet]:
    keys = Keys()
    redis = EmbeddedRedis(tmp_path / "redis")
    config_file = tmp_path / "explorer.yaml"
    config_file.write_text(yaml.safe_dump(settings(tmp_path, server)))
    env = {
        "EXPLORER_CONFIG": str(config_file),
        "DATABASE_URL": database_url,
        "REDIS_URL": redis.start(),
        clock.VARIABLE: server.clock,
        "X_API_KEY": keys.api_key,
        "X_API_SECRET": keys.api_secret,
        "X_ACCESS_TOKEN": keys.access_token,
        "X_ACCESS_TOKEN_SECRET": keys.access_token_secret,
    }
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("X_BASE_URL", server.base_url)
    give_work(database, server)

    server.kill()
    server.options += ("--tier", "basic", "--post-cap", "1000000")
    server.start()
    services = bot_services(tmp_path, {**env, "X_BASE_URL": server.base_url}, WORKERS)
    supervisor = Supervisor([s for s in services if s.name != "gpu"], log_dir=tmp_path / "logs")
    began = clock.now()
    supervisor.start()
    yield Fleet(tmp_path, supervisor, server, database, began)
    supervisor.stop()
    redis.stop()


def settings(directory: Path, server: Server) -> dict[str, Any]:
    return {
        "user_id": "1000001",
        "accounts_to_follow": [member["handle"] for member in server.control("members")[:FOLLOWED]],
        "persona": {"name": "Explorer", "description": "A test.", "tone": "plain", "interests": ["astronomy"]},
        "live": True,
        "data_dir": str(directory / "data"),
        "loop": {
            "tl_retrieval_interval": 1,
            "mentions_interval": 1,
            "engagement_retrieval_interval": 1,
            "tl_retrieval_length": 20,
        },
        "safety": {"min_pause": 2, "max_posts_per_hour": 60},
        "budget": {"tier": "basic", "max_usd_per_day": 10_000, "max_usd_per_month": 10_000},
    }


def give_work(db: Database, server: Server) -> None:
    """Rows for more than an hour: whom the bot follows, posts that are to be measured, and drafts that wait."""
    config, secrets = load_config(), load_secrets()
    BotContext(config, secrets, db).enrol()
    members = server.control("members")
    x = XInteractor(config.user_id, secrets=secrets)  # without a database: these reads are none of the hour's
    pages = (page for member in members for page in x.get_user_posts(member["id"], 3200))
    x_post_ids = [tweet.x_post_id for page in pages for tweet in page.tweets]
    x.close()
    with db.transaction() as session:
        loops.pause(session, BOT, "not what is looked at here", [loop for loop in LoopName if loop not in WORKING])
        community = CommunityDB(session, BOT)
        community.upsert([XUser(user_id=m["id"], handle=m["handle"], name=m["name"]) for m in members])
        for member in members[:FOLLOWED]:
            community.join(member["id"], FollowState.FOLLOWING)
        checkpoint = give_checkpoint(session)
        give_posts(session, checkpoint, x_post_ids)
        for number in range(QUEUED):
            give_draft(session, checkpoint, f"The comet is back, day {number}")


def give_posts(session: Session, checkpoint: Checkpoint, x_post_ids: list[str]) -> None:
    """Posts of the bot that are due to be measured. At X they are members' posts, of which it has thousands."""
    draft = give_draft(session, checkpoint, "As good as any", state=DraftState.USED)
    copied = {column.key: getattr(draft, column.key) for column in inspect(Draft).column_attrs}
    drafts = [{**copied, "draft_id": uuid.uuid4()} for _ in x_post_ids]
    session.execute(insert(Draft), drafts)
    long_ago = clock.now() - timedelta(days=30)
    session.execute(
        insert(Post),
        [
            {
                "bot_id": BOT,
                "content_gen_prompt": "Write a post.",
                "content": x_post_id,
                "is_reply": False,
                "kind": Kind.POST,
                "draft_id": made["draft_id"],
                "checkpoint_id": checkpoint.checkpoint_id,
                "persona_version": 1,
                "text_hash": text_hash(x_post_id),
                "state": PostState.POSTED,
                "queued_at": long_ago,
                "due_at": long_ago,
                "x_post_id": x_post_id,
                "post_time": snowflake_time(x_post_id),
                "next_measure_at": clock.now(),
            }
            for x_post_id, made in zip(x_post_ids, drafts, strict=True)
        ],
    )


def windows_of(server: Server) -> dict[str, list[dict[str, Any]]]:
    """The windows of fifteen minutes that X counted, by endpoint, in order."""
    found = defaultdict(list)
    for window in server.control("windows"):
        if window["header"] == "x-rate-limit" and window["token"] == "user":
            found[window["endpoint"]].append(window)
    return found


def test_an_hour_on_the_smallest_tier(fleet: Fleet) -> None:
    end = fleet.began + HOUR + timedelta(minutes=3)  # the workers need a moment to start
    wait_for(fleet, "hour", 400, lambda: clock.now() > end)
    end_ms = round(clock.now().timestamp() * 1000)
    windows = windows_of(fleet.server)
    with fleet.db.transaction() as session:
        still_due = session.scalars(select(func.count()).where(Post.next_measure_at <= clock.now())).one()
        said = list(session.scalars(select(Post).where(Post.content.like("The comet is back%"))))
        refused = session.scalars(select(func.count()).where(LedgerEntry.status == 429)).one()

    # The tier says what the windows are before the first answer does: nothing is ever refused.
    assert refused == sum(w["refused"] for found in windows.values() for w in found) == 0
    assert still_due > 100, "there was not enough to measure, so this says nothing about use"
    for endpoint, allowed in BOUND.items():
        whole = [w for w in windows[endpoint] if w["started_ms"] + w["span_ms"] < end_ms]
        assert len(whole) >= 3, endpoint
        assert {w["allowed"] for w in whole} == {allowed}, endpoint
        assert all(w["used"] >= 0.9 * allowed for w in whole), endpoint
        # Neither is much time lost between the end of one window and the first request of the next.
        idle = [later["started_ms"] - sooner["started_ms"] - sooner["span_ms"] for sooner, later in pairwise(whole)]
        assert sum(idle) <= 0.1 * sum(w["span_ms"] for w in whole), endpoint
    # And while measuring takes all that its window gives, again and again, what is to be said is said in time.
    posted = [post for post in said if post.post_time is not None]
    assert len(posted) >= QUEUED // 2
    assert all(post.post_time - post.due_at <= IN_TIME for post in posted if post.post_time is not None)
    assert not [post for post in said if post.post_time is None and post.due_at < clock.now() - IN_TIME]
