"""A bot with a long history: as many posts as asked, each with its draft, all measured for the last time long ago."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from benchmarks.place import BOT

AT_A_TIME = 100_000


def fill(db: Any, posts: int) -> None:
    """Give a database that was just migrated its bot and that bot's posts."""
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


def make_due(db: Any, due: int) -> None:
    """Put other posts than before, from all over the history, past their first planned age."""
    from sqlalchemy import text

    from app import clock

    with db.transaction() as session:
        session.execute(text(DUE), {"due": due, "now": clock.now(), "age": timedelta(minutes=20)})


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
        SELECT post_id FROM bot_db WHERE measure_step = 7 ORDER BY md5(text_hash) LIMIT :due
    )
"""
