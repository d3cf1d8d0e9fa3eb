"""The smallest windows that X sells, in virtual time: whose turn it is when there is not enough for all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from factories import BOT, give_checkpoint, give_draft, give_persona
from pydantic import SecretStr
from sqlalchemy import func, select

from app import clock
from app.config import Secrets, VibeBotConfig
from app.connectors.community_db import CommunityDB
from app.local.observer import Observer
from app.loops import PutOff
from app.posting import due_posts, queue_drafts, send_post
from app.reading import read_timeline
from app.reconciliation import reconcile
from app.sandbox.serving import served_here
from app.sandbox.settings import Keys, Settings
from app.x.endpoints import Endpoint
from app.x.types import XUser
from app.x_interactor import XInteractor
from dbs.models import Bot, Cursor, LedgerEntry, Post, TimelinePost
from dbs.session import Database
from dbs.states import FollowState, PostState

MEMBERS, WINDOW = 8, 5  # posts of a user may be read five times in a quarter of an hour


@dataclass
class World:
    db: Database
    x: XInteractor
    config: VibeBotConfig
    moment: clock.VirtualTime
    observer: Observer

    def read_until_put_off(self) -> None:
        with pytest.raises(PutOff) as put_off:
            read_timeline(self.db, self.x, self.config)
        assert put_off.value.until is not None
        self.moment.jump(put_off.value.until)

    def members_read(self) -> set[str]:
        with self.db.transaction() as session:
            return set(session.scalars(select(Cursor.name).where(Cursor.name.like("user:%"))))

    def windows(self) -> list[tuple[int, int]]:
        """Requests made and refused in each window of users' posts."""
        found = [window for window in self.observer.get("windows") if window["endpoint"] == "posts_of_user"]
        return [(window["used"], window["refused"]) for window in found]


@pytest.fixture
def world(tmp_path: Path, database: Database, database_url: str, config: VibeBotConfig) -> Iterator[World]:
    budget = config.budget.model_copy(update={"tier": "basic", "max_usd_per_day": 100.0})
    config = config.model_copy(update={"budget": budget})
    keys = Keys()
    with (
        clock.virtual(clock.wall_now().replace(hour=12, minute=0)) as moment,
        served_here(Settings(state=tmp_path / "sandbox", tier="basic", keys=keys)) as base_url,
    ):
        secrets = Secrets(
            x_api_key=SecretStr(keys.api_key),
            x_api_secret=SecretStr(keys.api_secret),
            x_access_token=SecretStr(keys.access_token),
            x_access_token_secret=SecretStr(keys.access_token_secret),
            x_base_url=base_url,
            database_url=SecretStr(database_url),
        )
        observer = Observer(base_url)
        with database.transaction() as session:
            session.add(Bot(bot_id=BOT, user_id=config.user_id, handle="explorer_bot", created_at=clock.now()))
            session.flush()
            give_persona(session)
            community = CommunityDB(session, BOT)
            for member in observer.get("members")[:MEMBERS]:
                community.upsert([XUser(user_id=member["id"], handle=member["handle"], name=member["name"])])
                community.join(member["id"], FollowState.WANTED)
        x = XInteractor(config.user_id, live=True, secrets=secrets, db=database, budget=budget)
        yield World(database, x, config, moment, observer)
        x.close()


def test_every_member_is_read_in_its_turn(world: World) -> None:
    world.read_until_put_off()
    assert len(world.members_read()) == WINDOW
    world.read_until_put_off()
    assert len(world.members_read()) == MEMBERS
    assert world.windows() == [(WINDOW, 0), (WINDOW, 0)]


def test_a_post_of_unknown_outcome_is_looked_for_whoever_reads(world: World) -> None:
    world.observer.post("script", [{"fault": "reset_after", "method": "POST", "path": "^/2/tweets$"}])
    with world.db.transaction() as session:
        give_draft(session, give_checkpoint(session), "The comet is back")
    assert queue_drafts(world.db, world.config) == 1
    (post_id,) = due_posts(world.db, world.config)
    assert send_post(world.db, world.x, world.config, post_id) is PostState.UNCONFIRMED
    world.moment.jump(clock.now() + timedelta(minutes=3))
    # Reading comes first, again and again, and leaves the one request by which the post is found.
    with pytest.raises(PutOff):
        read_timeline(world.db, world.x, world.config)
    assert world.windows() == [(WINDOW - 1, 0)]
    assert reconcile(world.db, world.x, world.config) == 1
    assert world.windows() == [(WINDOW, 0)]
    with world.db.transaction() as session:
        assert session.get_one(Post, post_id).state == PostState.POSTED


def test_what_was_read_is_kept_where_its_thread_cannot_be_had(world: World) -> None:
    world.observer.post("faults", [{"fault": "503", "path": "^/2/tweets$"}])
    world.read_until_put_off()
    assert len(world.members_read()) == WINDOW
    with world.db.transaction() as session:
        asked = session.scalars(select(LedgerEntry.outcome).where(LedgerEntry.endpoint == Endpoint.POSTS)).all()
        assert set(asked) == {"ServerUnavailable"}
        assert session.scalars(select(func.count()).select_from(TimelinePost)).one() > WINDOW
