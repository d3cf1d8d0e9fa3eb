"""The jump start's data set, gathered from the timelines of a sandbox over HTTP: its memory, and whether that grows.

The shipped communities are written from some thousand templates, so most of two gigabytes of them would be dropped as
near-duplicates. This one puts phrases of the words of the row `data_set` together anew in each post. What it posts as
empty carries no language, is dropped for that, and is counted. Its X is a process of its own; ours pays its price in
requests, windows and a ledger, as with the real one.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.memory import curve, growth, peak, resident_memory
from benchmarks.place import BOT, PERSONA, RICH, until
from benchmarks.row import BenchmarkError, Curve, Figure, Measured, Probe, Row, Settings, Side
from benchmarks.rows.data_set import WORDS

PHRASES, WORDS_OF_A_PHRASE = 4000, 5
LENGTHS = range(5, 9)  # phrases of a post
LONGEST_START = 900.0
ENOUGH = 1e6  # US dollars


def ours(settings: Settings, probe: Probe) -> Measured:
    from app import logs
    from app.community import load_community
    from app.context import BotContext
    from app.data.filters import Dropped
    from app.data.gathering import gather
    from app.local.servers import EmbeddedPostgres
    from dbs.migrations import upgrade
    from dbs.session import Database

    probe.imported()
    logs.configure("WARNING")  # a line for each request is no part of it
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        begun = datetime.now(UTC).isoformat()
        # One clock for both. X gives 900 timelines in fifteen minutes, which is 30 a second at this speed.
        os.environ["EXPLORER_CLOCK"] = f"{begun}@{settings['speed']}"
        server = EmbeddedPostgres(place / "postgres")
        url = server.start()
        try:
            with _sandbox(settings, place) as x_url:
                upgrade(url)
                db = Database(url)
                bot = BotContext(_config(settings, place), secrets=_secrets(x_url), db=db)
                bot.enrol()
                load_community(db, bot.x, bot.config)
                with resident_memory() as samples:
                    started = time.perf_counter()
                    found = gather(bot, agree=lambda _: True)
                    seconds = time.perf_counter() - started
                if not found.complete or found.dropped.keys() - {Dropped.NO_LANGUAGE}:
                    raise BenchmarkError(f"it ended because {found.reason}, and dropped {found.dropped}")
                eligible = _read(db) - found.dropped[Dropped.NO_LANGUAGE]
                db.close()
        finally:
            server.stop()
        size = _check(found.directory, eligible)
    probe.curve(curve(samples))
    return {
        "rate": size / 1e6 / seconds,
        "size": float(size),
        "posts": float(eligible),
        "peak": peak(samples),
        "growth": growth(samples),
    }


def _config(settings: Settings, place: Path) -> Any:
    from app.config import VibeBotConfig

    return VibeBotConfig.model_validate({
        "user_id": "1000001", "bot_id": BOT, "persona": PERSONA, "data_dir": str(place / "data"),
        "accounts_to_follow": [f"member_{number}" for number in range(int(settings["members"]))],
        "budget": {**RICH, "tier": "enterprise"}, "sft": {"max_cost": ENOUGH},
    })  # fmt: skip


def _secrets(x_url: str) -> Any:
    """As `app.local.virtual.VirtualX` has them; that module would put torch into the memory that is measured."""
    from app.config import Secrets
    from app.sandbox.settings import Keys

    keys = Keys()
    return Secrets(
        x_api_key=keys.api_key,
        x_api_secret=keys.api_secret,
        x_access_token=keys.access_token,
        x_access_token_secret=keys.access_token_secret,
        x_client_id=None,  # whatever the environment has: those of X open nothing here
        x_client_secret=None,
        x_base_url=x_url,
    )


@contextmanager
def _sandbox(settings: Settings, place: Path) -> Iterator[str]:
    """A sandbox with the community of words, as its URL."""
    community, ready = place / "community.json", place / "ready.json"
    community.write_text(json.dumps(_community(settings)))
    command = [sys.executable, "-m", "app.sandbox", "--state", str(place / "x"), "--ready-file", str(ready)]
    server = subprocess.Popen([*command, "--community", str(community)])
    try:
        until(lambda: ready.exists() or server.poll() is not None, LONGEST_START, "a sandbox that listens")
        if server.poll() is not None:
            raise BenchmarkError(f"the sandbox ended with {server.returncode}")
        yield str(json.loads(ready.read_text())["base_url"])
    finally:
        server.terminate()
        server.wait(60)


def _community(settings: Settings) -> dict[str, Any]:
    """Members who post by day and by night, each post in words drawn for it alone, none an answer or a repost.

    Nobody follows them, so nobody likes what they say: what is gathered does not depend on that.
    """
    from app.sandbox.communityfile import load

    body = load("default").model_dump(mode="json")
    hours, members = int(settings["history_hours"]), int(settings["members"])
    pace = int(settings["posts"]) * 24 / hours / members
    chance = random.Random(int(settings["seed"]))
    phrases = [" ".join(chance.choices(WORDS, k=WORDS_OF_A_PHRASE)) for _ in range(PHRASES)]
    texts = [" ".join(f"{{phrase{place}}}" for place in range(length)) for length in LENGTHS]
    topic = {"about": "words", "words": WORDS, "news": texts, "ideas": texts, "questions": texts}
    member = {"name": "A member", "posts_per_day": pace, "awake": (0, 24), "followers": 0, "interests": {"words": 1.0}}
    return body | {
        "history_hours": hours,
        "crowd": {"size": 0},
        "rhythm": {"reply_share": 0, "repost_share": 0, "mention_share": 0, "news_pull": 0},
        "members": [{**member, "handle": f"member_{number}"} for number in range(members)],
        "common": {f"phrase{place}": phrases for place in range(max(LENGTHS))},
        "topics": {"words": topic},
        "held_out": {},
        "small_talk": texts,
        "empty": texts,
        "answers": {"positive": texts, "negative": texts},
        "quotes": {"positive": texts, "negative": texts},
        "replies_between_members": texts,
    }


def _read(db: Any) -> int:
    """Posts that X gave, by the accounts' own counts.

    Raises:
        BenchmarkError: an account was not read to its end.
    """
    from sqlalchemy import func, select

    from dbs.models import DataSetAccount
    from dbs.states import SourceState

    with db.transaction() as session:
        posts, states = func.sum(DataSetAccount.read), func.array_agg(DataSetAccount.state.distinct())
        total, found = session.execute(select(posts, states)).one()
    if found != [SourceState.EXHAUSTED]:
        raise BenchmarkError(f"accounts ended as {found}, and each was to be read to its end")
    return int(total)


def _check(directory: Path, eligible: int) -> int:
    """The bytes of the files, in which every eligible post stands once.

    Raises:
        BenchmarkError: one is missing, or stands there twice.
    """
    ids: set[int] = set()
    records = size = 0
    for file in directory.glob("[0-9]*.json"):
        posts = json.loads(file.read_bytes())
        ids.update(int(post["post_id"]) for post in posts)
        records += len(posts)
        size += file.stat().st_size
    if not records == len(ids) == eligible:
        raise BenchmarkError(f"{eligible} were to be kept; {records} stand in the files, {len(ids)} of them different")
    return size


ROW = Row(
    name="data_set_over_http",
    what="The jump start's data set gathered over HTTP from a sandbox's timelines, each account to its end: memory.",
    ours=Side(
        label="app.data.gathering.gather",
        measure=ours,
        settings=(
            "Filters, near-duplicates, and for every page of 100 posts a permission to ask, a line in the ledger, an "
            "fsync and a commit to a durable PostgreSQL.",
            "The sandbox runs beside it on the same cores; its memory is not counted.",
            "Growth is the most memory in the last quarter of the time, over the most in the second quarter.",
            "Every eligible post stands in the files once, or the row fails.",
        ),
    ),
    baseline=None,
    figures=(
        Figure("peak memory", "peak", "bytes", "ours alone", "at most", 400e6),
        Figure("growth of memory", "growth", "times", "ours alone", "at most", 1.05),
        Figure("size of the files", "size", "bytes", "ours alone", "at least", 2e9),
        Figure("posts", "posts", "posts", "ours alone", "at least", None),
        Figure("megabytes a second", "rate", "MB/s", "ours alone", "at least", None),
    ),
    settings={"members": 3000, "posts": 7_800_000, "history_hours": 336, "speed": 30, "seed": 1},
    quick={"members": 20, "posts": 20_000, "history_hours": 168},
    packages=("sqlalchemy", "psycopg2-binary", "tweepy", "fastapi"),
    repetitions=1,
    longest=4 * 3600,
    curve=Curve("seconds of gathering", "resident memory, MB", 1e6, 400e6),
)  # fmt: skip
