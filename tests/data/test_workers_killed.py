"""Three real I/O workers gather from the sandbox and are killed at random moments: nothing twice, nothing missing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from sandbox_server import Server
from small_page_worker import PAGE, PAGES_AT_ONCE
from sqlalchemy import func, select, text, update
from test_killed import ids_in, said_before
from waiting import wait_for

from app import clock, loops
from app.community import load_community
from app.config import VibeBotConfig
from app.context import BotContext
from app.data import manifest, x_source
from app.data.fanout import gather_by_workers
from app.data.filters import reason_to_drop
from app.data.gathering import gather
from app.data.near import RUN, words_of
from app.loading import load_config, load_secrets
from app.local.observer import Observer
from app.local.servers import EmbeddedRedis
from app.sandbox.communityfile import FOLDER
from app.sandbox.settings import Keys
from app.schedule import LoopName
from app.text import jaccard, runs
from dbs.models import DataSet, DataSetAccount
from dbs.session import Database
from dbs.states import DataSetState
from workers.supervisor import Service, Supervisor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

WORKERS, KILLS = 3, 12
# After every change of an account: how far apart those are that have more, and how many pages are under way.
WATCH = """
    CREATE TABLE watched (spread integer, under_way integer);
    CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO watched
            SELECT max(turns) - min(turns), count(*) FILTER (WHERE claimed_until > clock_timestamp())
            FROM data_set_accounts WHERE state = 'reading' HAVING count(*) > 0;
        RETURN NULL;
    END $$;
    CREATE TRIGGER watch AFTER UPDATE ON data_set_accounts FOR EACH STATEMENT EXECUTE FUNCTION watch();
"""


@dataclass
class Fleet:
    """Three workers and beat."""

    directory: Path
    supervisor: Supervisor
    bot: BotContext

    def tend(self) -> None:
        self.supervisor.tend()

    def turns(self) -> int:
        with self.bot.db.transaction() as session:
            return session.scalars(select(func.coalesce(func.sum(DataSetAccount.turns), 0))).one()

    def is_complete(self) -> bool:
        with self.bot.db.transaction() as session:
            return session.get_one(DataSet, self.bot.config.bot_id).state == DataSetState.COMPLETE

    def kill(self, name: str) -> None:
        """At once and whole, as the kernel does; and five minutes pass, after which its claims have lapsed."""
        os.killpg(self.supervisor.pids()[name], signal.SIGKILL)
        with self.bot.db.transaction() as session:
            session.execute(update(DataSetAccount).values(claimed_until=clock.wall_now()))

    def sharers(self) -> Counter[str]:
        """How many pages each worker has stored, as its log says."""
        return Counter(
            {
                name: stored
                for name in (f"io-{n}" for n in range(1, WORKERS + 1))
                if (stored := sum(is_stored(line) for line in self.log_of(name)))
            }
        )

    def log_of(self, name: str) -> list[str]:
        return (self.directory / "logs" / f"{name}.log").read_text().splitlines()


def is_stored(line: str) -> bool:
    return '"data_set.page"' in line and '"stored": true' in line


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Server]:
    """A sandbox whose members have two days behind them, and an X that takes its time."""
    file = tmp_path / "talkative.yaml"
    file.write_text((FOLDER / "default.yaml").read_text().replace("history_hours: 24 ", "history_hours: 48 "))
    server = Server(tmp_path / "sandbox", speed=1.0, options=("--community", str(file))).start()
    yield server
    server.kill()


@pytest.fixture
def fleet(
    tmp_path: Path, sandbox: Server, config: VibeBotConfig, database: Database, database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Fleet]:  # fmt: skip
    keys, redis = Keys(), EmbeddedRedis(tmp_path / "redis")
    sft = config.sft.model_copy(update={"file_bytes": 30_000, "read_parents": False})
    budget = config.budget.model_copy(update={"tier": "enterprise"})
    handles = Observer(sandbox.base_url).handles(24)
    mine = config.model_copy(update={"sft": sft, "budget": budget, "accounts_to_follow": handles})
    file = tmp_path / "explorer.yaml"
    file.write_text(yaml.safe_dump(mine.model_dump(mode="json")))
    env = {
        "EXPLORER_CONFIG": str(file),
        "DATABASE_URL": database_url,
        "REDIS_URL": redis.start(),
        clock.VARIABLE: sandbox.clock,
        "X_API_KEY": keys.api_key,
        "X_API_SECRET": keys.api_secret,
        "X_ACCESS_TOKEN": keys.access_token,
        "X_ACCESS_TOKEN_SECRET": keys.access_token_secret,
        "X_BASE_URL": sandbox.base_url,
    }
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    bot = BotContext(load_config(), secrets=load_secrets(), db=database)
    bot.enrol()
    with database.transaction() as session:
        others = [loop for loop in LoopName if loop is not LoopName.COMMUNITY]
        loops.pause(session, bot.config.bot_id, "not what is looked at here", others)
    load_community(bot.db, bot.x, bot.config)
    beat = ["-m", "celery", "-A", "app", "beat", "--schedule", str(tmp_path / "beat"), "--pidfile="]
    worker = [str(Path(__file__).parent / "small_page_worker.py"), "--name"]
    services = [Service("beat", [sys.executable, *beat], env=env)] + [
        Service(f"io-{n}", [sys.executable, *worker, f"io-{n}"], env=env) for n in range(1, WORKERS + 1)
    ]
    fleet = Fleet(tmp_path, Supervisor(services, log_dir=tmp_path / "logs"), bot)
    yield fleet
    fleet.supervisor.stop()
    redis.stop()


def test_workers_killed_again_and_again_hold_every_eligible_post_once(
    fleet: Fleet, sandbox: Server, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot = fleet.bot
    with database.transaction() as session:
        session.execute(text(WATCH))
        before = manifest.begin(session, bot.config).before_id
    sandbox.control("faults", [{"fault": "latency", "seconds": 1.0, "distribution": "uniform", "path": "/tweets$"}])
    said: list[str] = []
    kick_off = threading.Thread(target=watch_them, args=(bot, said))
    fleet.supervisor.start()
    kick_off.start()
    wait_for(fleet, "page of each worker", 120, lambda: len(fleet.sharers()) == WORKERS)

    chance = random.Random(7)
    killed: Counter[str] = Counter()
    while killed.total() < KILLS:
        turns = fleet.turns()
        wait_for(fleet, "page", 90, lambda turns=turns: fleet.turns() > turns or fleet.is_complete())
        assert not fleet.is_complete(), f"the data set was whole after {killed.total()} kills"
        time.sleep(chance.random() * 0.3)
        if alive := sorted(name for name in fleet.supervisor.pids() if name.startswith("io")):
            name = chance.choice(alive)
            fleet.kill(name)
            killed[name] += 1
    sandbox.control("faults", [])
    wait_for(fleet, "end", 300, fleet.is_complete)
    kick_off.join(30)
    assert said[-1].endswith("posts, True"), said

    place = manifest.directory(bot.config)
    kept = ids_in(place)
    assert len(kept) == len(set(kept)), "nothing twice"
    with database.transaction() as session:
        row = session.get_one(DataSet, bot.config.bot_id)
        accounts = manifest.accounts(session, bot.config.bot_id)
        spread, most, looks = session.execute(text("SELECT max(spread), max(under_way), count(*) FROM watched")).one()
    assert len(kept) == row.posts
    posts = said_before(bot.x, [account.account for account in accounts], before)
    assert sum(account.read for account in accounts) == len(posts), "nothing missing"
    eligible = {post.post_id: post.text for post in posts if reason_to_drop(post, bot.config.sft.languages) is None}
    assert set(kept) <= eligible.keys()
    assert len(eligible) - len(kept) == row.dropped.get("near_duplicate", 0)
    assert looks > 2 * sum(account.turns for account in accounts)
    assert spread <= PAGES_AT_ONCE, "turns differ by no more than the pages under way"
    assert 1 < most <= PAGES_AT_ONCE

    assert len({account.account for account in accounts if account.turns}) == len(accounts) > 2 * WORKERS
    shared = fleet.sharers()
    assert shared.keys() == {f"io-{n}" for n in range(1, WORKERS + 1)}
    # Shown by `pytest -s`.
    print(
        f"{len(kept)} posts, {shared.total()} pages stored: {dict(shared)}; killed {dict(killed)}; turns of accounts "
        f"differed by {spread} at most, {most} pages under way at most; dropped {row.dropped}"
    )

    alone = bot.config.model_copy(update={"data_dir": str(tmp_path / "alone")})
    monkeypatch.setattr(x_source, "PAGE", PAGE)
    with database.transaction() as session:
        manifest.discard(session, bot.config)
        manifest.begin(session, alone).before_id = before
    gather(BotContext(alone, secrets=bot.secrets, db=database), agree=lambda _: True)
    same_but_for_likeness(set(kept), set(ids_in(manifest.directory(alone))), eligible, bot.config.sft.max_similarity)


def watch_them(bot: BotContext, said: list[str]) -> None:
    """The kick-off's step."""
    found = gather_by_workers(bot, call, agree=lambda _: True, say=said.append)
    said.append(f"{found.posts} posts, {found.complete}")


def call() -> None:
    """Send the task, from a process of its own: the app of this one may have met another test's broker before."""
    subprocess.run([sys.executable, "-m", "celery", "-A", "app", "call", "app.tasks.data_set"], check=True)


def same_but_for_likeness(some: set[str], others: set[str], texts: dict[str, str], likeness: float) -> None:
    """Two sets that hold the same posts, where of some that are alike each has kept the one that came first."""
    for mine, theirs in ((some, others), (others, some)):
        for post_id in mine - theirs:
            kept = runs(words_of(texts[post_id]), RUN)
            assert any(jaccard(kept, runs(words_of(texts[other]), RUN)) >= likeness for other in theirs), post_id
    assert len(some & others) > 0.9 * len(some)
