"""Gathering from the sandbox, killed at random moments: nothing twice, nothing missing."""

from __future__ import annotations

import json
import multiprocessing
import random
import time
from pathlib import Path

import pytest
from sandbox_server import Server
from sqlalchemy import func, select
from timelines import give_members

from app import clock
from app.config import Secrets, VibeBotConfig
from app.context import BotContext
from app.data import manifest, x_source
from app.data.filters import reason_to_drop
from app.data.gathering import gather
from app.data.records import SourcePost
from app.local.observer import Observer
from app.sandbox.communityfile import FOLDER
from app.sandbox.settings import Keys
from app.x_interactor import XInteractor
from dbs.models import DataSet, DataSetAccount
from dbs.session import Database

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
KILLS = 20


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A sandbox whose members have three days behind them, and a world that hardly moves on."""
    file = tmp_path / "talkative.yaml"
    file.write_text((FOLDER / "default.yaml").read_text().replace("history_hours: 24 ", "history_hours: 72 "))
    server = Server(tmp_path / "sandbox", speed=1.0, options=("--community", str(file))).start()
    monkeypatch.setenv(clock.VARIABLE, server.clock)
    yield server
    server.kill()


def ids_in(place: Path) -> list[str]:
    posts: list[str] = []
    for number in range(len(list(place.glob("[0-9]*.json")))):
        posts += [item["post_id"] for item in json.loads((place / f"{number}.json").read_bytes())]
    return posts


def gather_in_child(config: VibeBotConfig, secrets: Secrets, url: str) -> None:
    gather(BotContext(config, secrets=secrets, db=Database(url)), agree=lambda _: True)


def test_killed_twenty_times_it_holds_every_eligible_post_once(
    sandbox: Server,
    config: VibeBotConfig,
    database: Database,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = Keys()
    secrets = Secrets(
        x_api_key=keys.api_key,
        x_api_secret=keys.api_secret,
        x_access_token=keys.access_token,
        x_access_token_secret=keys.access_token_secret,
        x_base_url=sandbox.base_url,
    )
    monkeypatch.setattr(x_source, "PAGE", 10)  # more turns to be killed in
    budget = config.budget.model_copy(update={"tier": "enterprise"})
    sft = config.sft.model_copy(update={"file_bytes": 30_000, "read_parents": False})
    config = config.model_copy(update={"sft": sft, "budget": budget})
    context = BotContext(config, secrets=secrets, db=database)
    context.enrol()
    found, _ = context.x.resolve_handles(Observer(sandbox.base_url).handles(24))
    give_members(context, [user.user_id for user in found.values()])
    with database.transaction() as session:
        before = manifest.begin(session, config).before_id

    chance = random.Random(5)
    killed = 0
    process = None
    for _ in range(KILLS * 4):
        process = multiprocessing.get_context("fork").Process(
            target=gather_in_child, args=(config, secrets, database_url)
        )
        turns = turns_of(database)
        process.start()
        deadline = time.monotonic() + 30
        while process.is_alive() and turns_of(database) == turns and killed < KILLS:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        if killed == KILLS:
            break
        time.sleep(chance.random() * 0.06)
        if not process.is_alive():
            break
        process.kill()
        process.join()
        killed += 1
    assert process is not None
    process.join(60)
    assert process.exitcode == 0
    assert killed == KILLS, "the data set was whole before it was killed often enough"

    place = manifest.directory(config)
    kept = ids_in(place)
    assert len(kept) == len(set(kept)), "nothing twice"
    with database.transaction() as session:
        row = session.get_one(DataSet, config.bot_id)
        read = session.scalars(select(func.sum(DataSetAccount.read))).one()
        assert len(kept) == row.posts
    eligible = said_before(context.x, [user.user_id for user in found.values()], before)
    near = row.dropped.get("near_duplicate", 0)
    whole = {post.post_id for post in eligible if reason_to_drop(post, sft.languages) is None}
    assert len(eligible) == read, "nothing missing"
    assert set(kept) <= whole
    assert len(whole) - len(kept) == near

    quiet = config.model_copy(update={"data_dir": str(tmp_path / "quiet")})
    with database.transaction() as session:
        manifest.discard(session, config)
        manifest.begin(session, quiet).before_id = before
    gather(BotContext(quiet, secrets=secrets, db=database), agree=lambda _: True)
    assert ids_in(manifest.directory(quiet)) == kept, "what an undisturbed process gathers, in the same order"


def turns_of(database: Database) -> int:
    with database.transaction() as session:
        return session.scalars(select(func.coalesce(func.sum(DataSetAccount.turns), 0))).one()


def said_before(x: XInteractor, user_ids: list[str], before: str | None) -> list[SourcePost]:
    """Every post of the members that is older than a moment, read without any of what is tested."""
    posts: list[SourcePost] = []
    for user_id in user_ids:
        for page in x.get_user_posts(user_id, 3200, until_id=before):
            posts += [
                SourcePost(tweet.x_post_id, tweet.author_id, tweet.text, tweet.created_at, tweet.lang)
                for tweet in page.tweets
            ]
    return posts
