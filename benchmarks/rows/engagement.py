"""A turn of measuring with a long history behind it: 1,000 posts due among a million, and among ten thousand.

What is due is found by an index over what is still to be measured, so the turn should not feel how much there is. X is
left out on purpose: its answers come from memory, with no news under any post, so that the database is all that is
timed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.history import fill, make_due
from benchmarks.place import BOT
from benchmarks.row import BenchmarkError, Figure, Measured, Probe, Row, Settings, Side


def ours(settings: Settings, probe: Probe) -> Measured:
    return _turn(settings, probe, int(settings["posts"]))


def short_history(settings: Settings, probe: Probe) -> Measured:
    return _turn(settings, probe, int(settings["few_posts"]))


class _StillX:
    """An X at which nothing happens any more."""

    def get_counts(self, x_post_ids: Sequence[str]) -> dict[str, Any]:
        from app.x.types import Counts

        return {x_post_id: Counts(likes=1, retweets=0, quotes=0, replies=0) for x_post_id in x_post_ids}


def _turn(settings: Settings, probe: Probe, posts: int) -> Measured:
    from app.config import PersonaConfig, VibeBotConfig
    from app.local.servers import EmbeddedPostgres
    from app.measuring import measure_due
    from dbs.migrations import upgrade
    from dbs.session import Database

    probe.imported()
    due = int(settings["due"])
    with tempfile.TemporaryDirectory() as scratch:
        server = EmbeddedPostgres(Path(scratch) / "postgres")
        url = server.start()
        try:
            upgrade(url)
            db = Database(url)
            who = PersonaConfig(name="E", description="d", tone="t", interests=["i"])
            config = VibeBotConfig(user_id="1", accounts_to_follow=["a"], persona=who, bot_id=BOT, data_dir=scratch)
            fill(db, posts)
            seconds = []
            for _ in range(int(settings["turns"])):
                make_due(db, due)
                begun = time.perf_counter()
                stored = measure_due(db, _StillX(), config)  # type: ignore[arg-type]
                seconds.append(time.perf_counter() - begun)
                if stored != due:
                    raise BenchmarkError(f"{stored} of {due} due posts were measured")
            db.close()
        finally:
            server.stop()
    return {"turn": sorted(seconds)[len(seconds) // 2], "posts": float(posts)}


ROW = Row(
    name="engagement",
    what="A turn of measuring 1,000 posts that are due, with a million posts in the database.",
    ours=Side(label="a million posts", measure=ours, settings=("PostgreSQL as the wheel has it, durable.",)),
    baseline=Side(label="ten thousand posts", measure=short_history, settings=("The same.",)),
    figures=(Figure("turn", "turn", "s", "ours / baseline", "at most", 1.2),),
    settings={"posts": 1_000_000, "few_posts": 10_000, "due": 1000, "turns": 3},
    quick={"posts": 5000, "few_posts": 2000, "due": 200, "turns": 1},
    packages=("sqlalchemy", "psycopg2-binary"),
)
