"""A turn of measuring with a long history behind it: 1,000 posts due among a million, and among ten thousand.

What is due is found by an index over what is still to be measured, so the turn should not feel how much there is. X is
left out on purpose: its answers come from memory, with no news under any post, so that the database is all that is
timed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.row import BenchmarkError, Figure, Measured, Probe, Row, Settings, Side

BOT = "explorer"
AT_A_TIME = 100_000


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
            _fill(db, posts)
            seconds = []
            for turn in range(int(settings["turns"])):
                _make_due(db, due, turn)
                begun = time.perf_counter()
                stored = measure_due(db, _StillX(), config)  # type: ignore[arg-type]
                seconds.append(time.perf_counter() - begun)
                if stored != due:
                    raise BenchmarkError(f"{stored} of {due} due posts were measured")
            db.close()
        finally:
            server.stop()
    return {"turn": sorted(seconds)[len(seconds) // 2], "posts": float(posts)}


def _fill(db: Any, posts: int) -> None:
    """A bot with as many posts as asked, each with its draft, all measured for the last time long ago."""
    from sqlalchemy import text

    from app import clock
    from dbs.models import Bot, Checkpoint, PersonaVersion

    now = clock.now()
    with db.transaction() as session:
        session.add(Bot(bot_id=BOT, user_id="1", created_at=now))
        session.flush()
        session.add(PersonaVersion(
            bot_id=BOT, version=1, name="E", description="d", tone="t", interests=["i"], origin="config",
            state="current", created_at=now,
        ))  # fmt: skip
        checkpoint = Checkpoint(bot_id=BOT, kind="base", state="served", is_current=True, is_reference=True,
                                base_model="m", base_hash="0" * 64, manifest={}, created_at=now)  # fmt: skip
        session.add(checkpoint)
        session.flush()
        known = {"bot": BOT, "checkpoint": checkpoint.checkpoint_id, "now": now}
    for first in range(0, posts, AT_A_TIME):
        span = {"first": first, "last": min(first + AT_A_TIME, posts) - 1}
        with db.transaction() as session:
            session.execute(text(DRAFTS), known | span)
            session.execute(text(POSTS), known | span)
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def _make_due(db: Any, due: int, turn: int) -> None:
    """Put another thousand posts, from all over the history, before their first planned age."""
    from sqlalchemy import text

    from app import clock

    with db.transaction() as session:
        session.execute(text(DUE), {"due": due, "turn": turn, "now": clock.now(), "age": timedelta(minutes=20)})


# The ids are made of the row's number, so that a post finds its draft.
ID = "(lpad(to_hex(i), 32, '0'))::uuid"
DRAFTS = f"""
    INSERT INTO drafts (draft_id, bot_id, kind, content, state, edited, attempt, selection_chance, arm, arm_chance,
        checkpoint_id, persona_version, prompt_version, filter_version, temperature, max_new_tokens, finished, hour_utc,
        weekday, created_at)
    SELECT {ID}, :bot, 'post', 'Text number ' || i, 'used', false, 1, 1.0, 'incumbent', 0.95, :checkpoint, 1, '1', '1',
        0.7, 60, true, 12, 1, CAST(:now AS timestamptz) - interval '1 minute' * (i % 500000 + 20000)
    FROM generate_series(CAST(:first AS bigint), :last) AS i
"""  # noqa: S608 - of this file's own words
POSTS = f"""
    INSERT INTO bot_db (post_id, content_gen_prompt, content, is_reply, post_time, bot_id, kind, x_post_id, draft_id,
        checkpoint_id, persona_version, edited, sent_by, text_hash, state, queued_at, due_at, attempts, absent_reads,
        measure_step)
    SELECT {ID}, 'Write.', 'Text number ' || i, false, at, :bot, 'post', (1000000000 + i)::text, {ID}, :checkpoint, 1,
        false, 'bot', lpad(to_hex(i), 64, '0'), 'posted', at, at, 1, 0, 7
    FROM generate_series(CAST(:first AS bigint), :last) AS i,
        LATERAL (SELECT CAST(:now AS timestamptz) - interval '1 minute' * (i % 500000 + 20000) AS at) AS moment
"""  # noqa: S608
DUE = """
    UPDATE bot_db SET post_time = CAST(:now AS timestamptz) - :age, next_measure_at = :now, measure_step = 0
    WHERE post_id IN (
        SELECT post_id FROM bot_db WHERE measure_step = 7 ORDER BY md5(text_hash) OFFSET :turn * :due LIMIT :due
    )
"""

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
