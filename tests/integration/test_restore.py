"""Backup and restore as `docs/operating.md` has them: its own commands, on a bot that has lived."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from documented import ROOT, under
from factories import give_draft, give_persona
from healthy_setup import Setting
from sqlalchemy import create_engine, make_url, text

from app.local.servers import EmbeddedPostgres
from app.policy import registry
from app.text import text_hash
from dbs.models import Base, Loop, Post
from dbs.session import Database
from dbs.states import PostState

PAGE = "docs/operating.md"


def carry_out(commands: list[str], setting: Setting, database_url: str, programs: Path) -> None:
    url = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    given = [f"export PGURL='{url}'" if line.startswith("export PGURL=") else line for line in commands]
    path = [str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]
    kept = {name: value for name, value in os.environ.items() if name in {"HOME", "LANG"}}
    env = kept | setting.env | {"DATABASE_URL": database_url, "PATH": os.pathsep.join(path), "PYTHONPATH": str(ROOT)}
    env |= {"EXPLORER_CONFIG": str(setting.config_file), "PGURL": url}
    done = subprocess.run(
        ["bash", "-euc", "\n".join(given)], cwd=setting.directory, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}{done.stderr[-3000:]}"


def rows(url: str) -> dict[str, list[str]]:
    """Every row of every table, as text."""
    engine = create_engine(url)
    with engine.connect() as connection:
        found = {
            name: [row[0] for row in connection.execute(text(f'SELECT t::text FROM "{name}" t ORDER BY 1'))]
            for name in Base.metadata.tables
        }
    engine.dispose()
    return found


@pytest.fixture
def lived(setting: Setting) -> Setting:
    """A bot with a post that waits to be sent, and a draft that waits to become one."""
    setting.write()
    (setting.directory / "data").mkdir(exist_ok=True)
    for name in ("alembic.ini", "alembic"):  # as in a checkout, which is where the page's commands are given
        (setting.directory / name).symlink_to(ROOT / name)
    database = Database(setting.env["DATABASE_URL"])
    with database.transaction() as session:
        checkpoint = registry.current(session, "explorer")
        assert checkpoint is not None
        if session.execute(text("SELECT count(*) FROM persona_versions")).scalar_one() == 0:
            give_persona(session)
        for content in ("The harbour froze on the third of March.", "Two herons on the weir at noon."):
            draft = give_draft(session, checkpoint, content)
        session.add(
            Post(
                bot_id="explorer", kind="post", is_reply=False, content=draft.content, content_gen_prompt="p",
                draft_id=draft.draft_id, checkpoint_id=checkpoint.checkpoint_id, persona_version=1, edited=False,
                sent_by="bot", text_hash=text_hash(draft.content), state=PostState.QUEUED, queued_at=draft.created_at,
                due_at=draft.created_at, attempts=0, absent_reads=0, measure_step=0,
            )
        )  # fmt: skip
    database.close()
    return setting


def test_what_was_backed_up_is_restored(lived: Setting, postgres: EmbeddedPostgres) -> None:
    before = rows(lived.env["DATABASE_URL"])
    assert before["checkpoints"]
    assert before["bot_db"]
    carry_out(under(PAGE, "### Backup", "### Restore"), lived, lived.env["DATABASE_URL"], postgres.programs)

    name = f"restored_{uuid.uuid4().hex}"
    admin = create_engine(postgres.url("postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    shutil.rmtree(lived.directory / "checkpoints")
    commands = under(PAGE, "### Restore", "### Upgrade")
    doctor = commands.index("explorer doctor")
    try:
        carry_out(commands[:doctor], lived, postgres.url(name), postgres.programs)
        after = rows(postgres.url(name))
        assert {table: found for table, found in after.items() if found != before[table]} == {}
        # The doctor finds every checkpoint whole, and books what it asked X; so it comes after the comparison.
        carry_out(commands[doctor:], lived, postgres.url(name), postgres.programs)
        engine = create_engine(postgres.url(name))
        with engine.connect() as connection:
            states = ("SELECT state FROM bot_db", "SELECT DISTINCT state FROM drafts")
            assert [connection.execute(text(sql)).scalar_one() for sql in states] == ["rejected", "rejected"]
            paused = connection.execute(text(f"SELECT loop FROM {Loop.__tablename__} WHERE paused")).scalars().all()
            assert paused == ["generation"]
        engine.dispose()
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()
