"""The schema: what the migrations make is what the models say and what the documents show."""

from __future__ import annotations

import pytest
from factories import BOT, give_seen
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.orm import Session

from app import clock
from app.local.servers import EmbeddedPostgres
from dbs import document, migrations
from dbs.models import Base, Judgement
from dbs.states import SeenState

CATALOGUE = """
    SELECT 'column' AS what, c.column_name AS name, c.data_type || ' ' || c.is_nullable AS shape
      FROM information_schema.columns c WHERE c.table_schema = 'public' AND c.table_name = :table
    UNION ALL
    SELECT 'constraint', conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = CAST(:table AS regclass)
    UNION ALL
    SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename = :table
    ORDER BY 1, 2
"""


def catalogue(url: str) -> dict[str, list[tuple[str, ...]]]:
    engine = create_engine(url)
    with engine.connect() as connection:
        found = {
            name: [tuple(row) for row in connection.execute(text(CATALOGUE), {"table": name})]
            for name in document.SEED_TABLES
        }
    engine.dispose()
    return found


@pytest.fixture
def empty_url(postgres: EmbeddedPostgres) -> str:
    return postgres.start("schema_by_hand")


def test_models_are_what_the_migrations_make(database_url: str) -> None:
    migrations.check(database_url)


def test_downgrade_leaves_nothing(database_url: str) -> None:
    migrations.downgrade(database_url)
    engine = create_engine(database_url)
    assert set(inspect(engine).get_table_names()) <= {"alembic_version"}
    engine.dispose()
    migrations.upgrade(database_url)
    migrations.check(database_url)


def test_the_tokens_go_with_their_table_and_nothing_else_does(database_url: str) -> None:
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO bots (bot_id, user_id, created_at) VALUES ('b', '1', '2026-01-01+00')"))
        connection.execute(
            text("INSERT INTO oauth2_tokens VALUES ('b', '1', '\\x00', 's', '2026-01-01+00', '2026-01-02+00', NULL)")
        )
    migrations.downgrade(database_url, "0003")
    assert "oauth2_tokens" not in inspect(engine).get_table_names()
    migrations.upgrade(database_url)
    migrations.check(database_url)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM bots")) == 1
        assert connection.scalar(text("SELECT count(*) FROM oauth2_tokens")) == 0
    engine.dispose()


def test_a_data_set_that_workers_gather_outlives_the_way_back(database_url: str) -> None:
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO bots (bot_id, user_id, created_at) VALUES ('b', '1', '2026-01-01+00')"))
        connection.execute(
            text(
                "INSERT INTO data_sets (bot_id, state, settings, files, posts, characters, dropped, usd, asked_to, "
                "by_workers, begun_at, updated_at) VALUES ('b', 'open', '{}', '[]', 3, 9, '{}', 1.5, 0, "
                "true, '2026-01-01+00', '2026-01-01+00')"
            )
        )
        connection.execute(
            text(
                "INSERT INTO data_set_accounts (bot_id, account, position, state, cursor, turns, read, kept, claim_id, "
                "claimed_until, updated_at) VALUES ('b', '7', 0, 'reading', '55', 2, 200, 3, gen_random_uuid(), "
                "'2026-01-01+00', '2026-01-01+00')"
            )
        )
    migrations.downgrade(database_url, "0005")
    assert "earlier_posts" not in inspect(engine).get_table_names()
    columns = {column["name"] for column in inspect(engine).get_columns("data_set_accounts")}
    assert not columns & {"claim_id", "claimed_until"}
    migrations.upgrade(database_url)
    migrations.check(database_url)
    with engine.connect() as connection:
        row = connection.execute(text("SELECT state, posts, by_workers, waits_until FROM data_sets")).one()
        account = connection.execute(text("SELECT cursor, turns, read, kept, claim_id FROM data_set_accounts")).one()
    engine.dispose()
    assert tuple(row) == ("open", 3, False, None)
    assert tuple(account) == ("55", 2, 200, 3, None)


def test_an_older_code_gets_files_that_it_can_read(database_url: str) -> None:
    """It knows no edition, and would refuse an entry that has one."""
    engine = create_engine(database_url)
    files = '[{"bytes": 9, "posts": 2, "edition": "a.1"}, {"bytes": 5, "posts": 1}]'
    columns = (
        "(bot_id, state, settings, files, posts, characters, dropped, usd, asked_to, by_workers, begun_at, updated_at)"
    )
    data_set = (
        f"INSERT INTO data_sets {columns} VALUES (:bot, 'open', '{{}}', :files, 3, 9, '{{}}', 0, 0, false, :at, :at)"
    )
    with engine.begin() as connection:
        for bot_id, held in (("b", files), ("c", "[]")):
            facts = {"bot": bot_id, "user": bot_id, "files": held, "at": "2026-01-01+00"}
            connection.execute(text("INSERT INTO bots (bot_id, user_id, created_at) VALUES (:bot, :user, :at)"), facts)
            connection.execute(text(data_set), facts)
    migrations.downgrade(database_url, "0005")
    with engine.connect() as connection:
        assert list(connection.scalars(text("SELECT files FROM data_sets ORDER BY bot_id"))) == [
            [{"bytes": 9, "posts": 2}, {"bytes": 5, "posts": 1}],
            [],
        ]
    migrations.upgrade(database_url)
    migrations.check(database_url)
    engine.dispose()


def test_what_days_came_to_before_there_was_a_table_of_it(database_url: str) -> None:
    engine = create_engine(database_url)
    migrations.downgrade(database_url, "0007")
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO bots (bot_id, user_id, created_at) VALUES ('b', '1', '2026-01-01+00')"))
        connection.execute(text(
            "INSERT INTO request_ledger (bot_id, endpoint, at, reserved_usd, cost_usd) VALUES "
            "('b', 'e', '2026-01-01 23:59+00', 0.5, 0.1), ('b', 'e', '2026-01-02 00:01+00', 0.5, NULL), "
            "('b', 'e', '2026-01-02 01:00+02', 0.5, 0.2), ('b', 'e', '2026-01-03 12:00+00', 0, 0)"
        ))  # fmt: skip
    migrations.upgrade(database_url)
    with engine.begin() as connection:
        days = connection.execute(text("SELECT day::text, usd::float FROM spent_days ORDER BY day")).all()
        connection.execute(text("DELETE FROM bots"))
        assert connection.execute(text("SELECT count(*) FROM spent_days")).scalar_one() == 0
    engine.dispose()
    assert [tuple(day) for day in days] == [("2026-01-01", pytest.approx(0.3)), ("2026-01-02", 0.5)]


def test_older_code_finds_a_judgement_of_whatever_is_to_be_answered(database_url: str) -> None:
    engine = create_engine(database_url)
    with Session(engine) as session:
        session.execute(text("INSERT INTO bots (bot_id, user_id, created_at) VALUES (:bot, '1', now())"), {"bot": BOT})
        for x_post_id in ("1", "2"):
            give_seen(session, x_post_id, summons=True, state=SeenState.SELECTED, state_reason="summons")
        judged = {"bot_id": BOT, "judge_version": "1", "selected_by": "summons", "judged_at": clock.now()}
        scores = {"newsworthy": 1.0, "substantive": 1.0, "score": 1.0, "selected": True, "selection_chance": 1.0}
        session.add(Judgement(x_post_id="2", **judged, **scores))
        session.commit()
    migrations.downgrade(database_url, "0008")
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT x_post_id, state, state_reason FROM timeline_posts ORDER BY 1")).all()
    migrations.upgrade(database_url)
    engine.dispose()
    assert [tuple(row) for row in rows] == [("1", "seen", None), ("2", "selected", "summons")]


def test_sql_files_are_what_the_migrations_make(database_url: str, empty_url: str) -> None:
    engine = create_engine(empty_url)
    others = [table for table in Base.metadata.sorted_tables if table.name not in document.SEED_TABLES]
    with engine.begin() as connection:
        # Users first, because memberships point at them.
        connection.execute(text((document.HERE / "community_db.sql").read_text()))
        Base.metadata.create_all(connection, tables=others)
        for name in ("bot_db", "engagement_db", "quotes_comments_db"):
            connection.execute(text((document.HERE / f"{name}.sql").read_text().replace(":", r"\:")))
    engine.dispose()
    assert catalogue(empty_url) == catalogue(database_url)


def test_documents_are_up_to_date() -> None:
    assert document.main(["--check"]) == 0


def test_every_table_and_column_is_explained() -> None:
    silent = [
        f"{table.name}.{column.name}"
        for table in Base.metadata.tables.values()
        for column in table.columns
        if not column.comment
    ]
    assert not silent
    assert all(table.comment for table in Base.metadata.tables.values())


def test_every_row_of_a_bot_carries_its_id() -> None:
    # X's users and the windows of an account are facts about X, whichever bot met them.
    of_x = {"community_db", "rate_windows"}
    assert {name for name, table in Base.metadata.tables.items() if "bot_id" not in table.columns} == of_x
