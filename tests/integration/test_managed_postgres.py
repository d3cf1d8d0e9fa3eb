"""PostgreSQL as others give it to you: a role that owns its database and no more, and a pooler in between."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, make_url, text
from test_health import is_listening, wait_until
from waiting import wait_for

from app.local.observer import Observer, duplicates
from app.local.report import count
from app.local.sandboxed import BOT_ID, config_writer, time_lapse_config
from app.local.servers import EmbeddedPostgres, free_port
from app.local.stack import SandboxOptions, running_stack
from dbs import migrations
from dbs.session import Database

ROOT = Path(__file__).parents[2]
# PgBouncer will not run as root, and Debian puts it where only root's path leads.
PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")


def make_owner(admin: str, name: str) -> None:
    """A role and a database of its own, as `docs/managed-postgres.md` makes them."""
    engine = create_engine(admin, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE"))
        connection.execute(text(f"CREATE DATABASE {name} OWNER {name}"))
    engine.dispose()


@pytest.fixture
def owned(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The URL of an empty database, as a role that owns it and has no other right."""
    name = f"owner_{uuid.uuid4().hex}"
    make_owner(postgres.url("postgres"), name)
    yield make_url(postgres.url(name)).set(username=name).render_as_string(hide_password=False)
    engine = create_engine(postgres.url("postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        connection.execute(text(f"DROP ROLE {name}"))
    engine.dispose()


def test_an_owner_without_rights_can_make_the_schema_and_wait_for_it(owned: str) -> None:
    env = {**os.environ, "DATABASE_URL": owned, "EXPLORER_CONFIG": str(ROOT / "explorer.example.yaml")}
    env |= {"PYTHONPATH": str(ROOT), "PYTHON": sys.executable}
    # What a pod of deploy/kubernetes asks before it starts.
    gate = [sys.executable, "-m", "app.cli", "doctor", "--only", "database"]
    before = subprocess.run(gate, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert before.returncode == 1
    assert "no schema yet" in before.stdout
    made = subprocess.run(["scripts/init_dbs.sh"], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    after = subprocess.run(gate, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert after.returncode == 0, after.stdout


@contextmanager
def pooled(database: URL, directory: Path) -> Iterator[URL]:
    """A PgBouncer in transaction mode before a database, as the address that leads through it."""
    assert PGBOUNCER is not None
    port, server = free_port(), Path(str(database.query["host"]))
    owner = server.stat()
    directory.mkdir()
    (directory / "users.txt").write_text(f'"{database.username}" ""\n')
    (directory / "pgbouncer.ini").write_text(
        f"[databases]\n{database.database} = host={server} dbname={database.database}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\n"
        f"auth_file = {directory / 'users.txt'}\npool_mode = transaction\ndefault_pool_size = 8\n"
        f"logfile = {directory / 'pgbouncer.log'}\n"
    )
    for path in (directory, *directory.iterdir()):
        os.chown(path, owner.st_uid, owner.st_gid)
    process = subprocess.Popen(
        [PGBOUNCER, "--quiet", str(directory / "pgbouncer.ini")],
        user=owner.st_uid if os.getuid() == 0 else None,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: is_listening(port))
        yield database.set(host="127.0.0.1", port=port, query={})
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(PGBOUNCER is None, reason="no pgbouncer on this machine: install the package of that name")
def test_the_loop_works_through_a_pooler_that_pools_by_transaction(
    packaged_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_config = config_writer(time_lapse_config(tmp_path, packaged_model), tmp_path / "explorer.yaml")
    options = SandboxOptions(speed=480)
    with ExitStack() as parts:

        def before_bot(env: dict[str, str]) -> None:
            make_owner(env["DATABASE_URL"], "owner")
            direct = make_url(env["DATABASE_URL"]).set(username="owner", database="owner")
            through = parts.enter_context(pooled(direct, tmp_path / "pgbouncer"))
            env["DATABASE_URL"] = through.render_as_string(hide_password=False)
            migrations.upgrade(env["DATABASE_URL"])
            write_config(env)

        with running_stack(tmp_path, tmp_path / "explorer.yaml", sandbox=options, before_bot=before_bot) as stack:
            database = Database(stack.env["DATABASE_URL"])

            def posted_and_measured() -> bool:
                with database.transaction() as session:
                    counts = count(session, BOT_ID)
                return counts.posted >= 3 and counts.measured_twice >= 1

            wait_for(stack, "measured post", 300, posted_and_measured)
            assert duplicates(Observer(stack.env["X_BASE_URL"]).writes()) == 0
            exported = subprocess.run(
                [sys.executable, "-m", "app.cli", "export", str(tmp_path / "exported")],
                env={**os.environ, **stack.env, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert exported.returncode == 0, exported.stderr
            database.close()
