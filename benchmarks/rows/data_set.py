"""The jump start's data set, gathered from a file of posts: bytes written a second, and memory, beside `json.dump`.

Ours filters each post, holds it against all that were kept before, writes it behind the others, syncs the files after
every page and commits the place in Postgres, so that a kill loses nothing (`tests/data/test_killed.py`). What a user
would write instead holds all posts in a list and writes it once. Both write the same records; every post is like no
other, so that none is dropped.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.memory import curve, growth, peak, resident_memory
from benchmarks.place import BOT, PERSONA
from benchmarks.row import BenchmarkError, Curve, Figure, Measured, Probe, Row, Settings, Side
from benchmarks.workload import PERSONA as PROSE
from benchmarks.workload import POSTS

WORDS = sorted({word.strip(".,") for word in f"{PROSE} {' '.join(POSTS)}".split()})
WORDS_OF_A_POST = (8, 40)
AUTHORS = 1000


def ours(settings: Settings, probe: Probe) -> Measured:
    from app.config import VibeBotConfig
    from app.context import BotContext
    from app.data.gathering import gather
    from app.local.servers import EmbeddedPostgres
    from dbs.migrations import upgrade
    from dbs.session import Database

    probe.imported()
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        posts = write_posts(place / "posts.jsonl", settings)
        server = EmbeddedPostgres(place / "postgres")
        url = server.start()
        try:
            upgrade(url)
            db = Database(url)
            sft: dict[str, Any] = {"source": "jsonl", "path": str(place / "posts.jsonl"), "approximate_tokens": 10**9}
            config = VibeBotConfig.model_validate({
                "user_id": "1", "bot_id": BOT, "accounts_to_follow": ["a"], "persona": PERSONA, "sft": sft,
                "data_dir": str(place / "data"),
            })  # fmt: skip
            bot = BotContext(config, db=db)
            bot.enrol()
            with resident_memory() as samples:
                begun = time.perf_counter()
                found = gather(bot)
                seconds = time.perf_counter() - begun
            db.close()
        finally:
            server.stop()
        files = list(found.directory.glob("[0-9]*.json"))
        kept = sum(len(json.loads(file.read_bytes())) for file in files)
        if kept != posts:
            raise BenchmarkError(f"{posts} posts were given, {kept} stand in the files; dropped: {found.dropped}")
        rate = sum(file.stat().st_size for file in files) / 1e6 / seconds
    probe.curve(curve(samples))
    # The table of the near-duplicates has touched all its pages after some thousands of posts.
    return {"rate": rate, "rate_with_reading": rate, "peak": peak(samples), "growth": growth(samples)}


def one_dump(settings: Settings, probe: Probe) -> Measured:
    from benchmarks.row import peak_rss

    probe.imported()
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "posts.jsonl", Path(scratch) / "posts.json"
        write_posts(source, settings)
        begun = time.perf_counter()
        with source.open(encoding="utf-8") as lines:
            posts = [_record(json.loads(line)) for line in lines]
        read = time.perf_counter()
        with target.open("w", encoding="utf-8") as file:
            json.dump(posts, file)
            file.flush()
            os.fsync(file.fileno())
        ended = time.perf_counter()
        size = target.stat().st_size / 1e6
    return {"rate": size / (ended - read), "rate_with_reading": size / (ended - begun), "peak": peak_rss()}


def write_posts(path: Path, settings: Settings) -> int:
    """A file of as many megabytes as the settings say, a post a line, none like another; returns how many."""
    chance, written, count = random.Random(int(settings["seed"])), 0, 0
    with path.open("w", encoding="utf-8") as file:
        while written < int(settings["megabytes"]) * 10**6:
            text = " ".join(chance.choices(WORDS, k=chance.randint(*WORDS_OF_A_POST)))
            post = {"id": str(10**18 + count), "author_id": str(10**9 + count % AUTHORS), "text": text}
            written += file.write(json.dumps(post) + "\n")
            count += 1
    return count


def _record(post: dict[str, str]) -> dict[str, str]:
    return {"post_id": post["id"], "author_id": post["author_id"], "text": post["text"]}


ROW = Row(
    name="data_set",
    what="The jump start's data set gathered from a JSONL file: bytes of its files written a second, and memory.",
    ours=Side(
        label="app.data.gathering.gather",
        measure=ours,
        settings=(
            "Filters, near-duplicates, and for every 2,000 posts an fsync and a commit to a durable PostgreSQL.",
            "Growth is the most memory in the last quarter of the time, over the most in the second quarter.",
        ),
    ),
    baseline=Side(
        label="json.dump of a list of the same records",
        measure=one_dump,
        settings=("Nothing is filtered; one fsync at the end. Its list is in memory before, which is told apart.",),
    ),
    figures=(
        Figure("megabytes a second", "rate", "MB/s", "ours / baseline", "at least", 1.0),
        Figure(
            "megabytes a second, making the list counted", "rate_with_reading", "MB/s", "ours / baseline", "at least",
            None,
        ),
        Figure("peak memory", "peak", "bytes", "ours alone", "at most", 400e6),
        Figure("peak memory beside the list", "peak", "bytes", "ours / baseline", "at most", None),
        Figure("growth of memory", "growth", "times", "ours alone", "at most", 1.05),
    ),
    settings={"megabytes": 100, "seed": 1},
    quick={"megabytes": 2},
    packages=("sqlalchemy", "psycopg2-binary"),
    bounds=(
        "Python: words, likeness to all posts before, and JSON, for every post, and each page waits for the disk; "
        "json.dump is one loop in C. X bounds it first: 900 pages of 100 posts in a quarter of an hour are some 30 KB "
        "a second."
    ),
    curve=Curve("seconds of gathering", "resident memory, MB", 1e6, 400e6),
)  # fmt: skip
