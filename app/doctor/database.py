"""PostgreSQL: that it lets us in, has our schema, and knows this bot."""

from __future__ import annotations

from sqlalchemy import make_url, text
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError

from app.doctor.findings import AtFault, Check, NotExamined
from app.doctor.setup import Setup
from app.loading import WrongSetting
from dbs import migrations
from dbs.migrations import Standing
from dbs.models import Bot
from dbs.session import Database

SETTING = "DATABASE_URL"
CONNECT_SECONDS = 10
# What the server or libpq says of a connection that was not made, and what to do. It gives no code to go by.
REFUSALS = (
    ("password authentication failed", "correct the user or the password in it"),
    ("no password supplied", "put the password into it, as USER:PASSWORD@HOST"),
    ("does not exist", "correct the name in it, or make the database or the role with createdb or createuser"),
    ("could not translate host name", "correct the host in it, or the name service of this machine"),
    ("connection refused", "start PostgreSQL, or correct host and port"),
    ("no pg_hba.conf entry", "let this machine in, in the server's pg_hba.conf"),
    ("too many clients", "raise max_connections of the server, or start fewer workers"),
    ("starting up", "wait until the server has started"),
)


def check_database(setup: Setup) -> str:
    url = setup.secrets.database_url.get_secret_value()
    try:
        shown = make_url(url).render_as_string(hide_password=True)
        if make_url(url).get_backend_name() != "postgresql":
            raise AtFault(WrongSetting(SETTING, f"got {shown}, which is no PostgreSQL", "give a postgresql:// address"))
        database = Database(url, connect_seconds=CONNECT_SECONDS)
    except ImportError as error:
        problem = f"got {shown}, whose driver is not installed ({error.name})"
        raise AtFault(WrongSetting(SETTING, problem, "begin it with postgresql+psycopg2://")) from None
    except (ArgumentError, ValueError):
        raise AtFault(WrongSetting(SETTING, "cannot be read as an address", "write it as .env.example shows")) from None
    try:
        with database.engine.connect() as connection:
            version = connection.scalar(text("SHOW server_version"))
            read_only = connection.scalar(text("SHOW transaction_read_only")) == "on"
    except OperationalError as error:
        database.close()
        raise _unreachable(setup, shown, str(error.orig)) from None
    setup.database = database
    if read_only:
        raise AtFault(
            WrongSetting(SETTING, f"{shown} takes no writes", "name the primary server, or take the read-only mode off")
        )
    return f"PostgreSQL {version} at {shown}"


def _unreachable(setup: Setup, shown: str, said: str) -> AtFault | NotExamined:
    if setup.may_lack("database_url"):
        return NotExamined(f"because {SETTING} is not set and nothing is at {shown}: `explorer up` brings its own")
    line = " ".join(said.split())
    remedy = next((todo for sign, todo in REFUSALS if sign in line.lower()), "correct it, or look at the server's log")
    return AtFault(WrongSetting(SETTING, f"no connection to {shown}: {line}", remedy))


def trouble(error: SQLAlchemyError) -> WrongSetting:
    """What to say where a database that let us in does not do what it is asked."""
    line = " ".join(str(getattr(error, "orig", None) or error).split())
    remedy = "let its role own the tables; if it may have them, look at the server's log"
    return WrongSetting(SETTING, f"the database does not do what it is asked: {line}", remedy)


def check_schema(setup: Setup) -> str:
    with setup.db.engine.connect() as connection:
        standing, revision = migrations.standing(connection)
    if standing is Standing.SAME:
        return f"that of this version ({revision})"
    problem, remedy = _schema_trouble(standing, revision)
    raise AtFault(WrongSetting(SETTING, problem, remedy))


def _schema_trouble(standing: Standing, revision: str) -> tuple[str, str]:
    upgrade = "run `alembic upgrade head` (`explorer up` and `explorer kickoff` do it too)"
    if standing is Standing.EMPTY:
        return "the database has no schema yet", upgrade
    if standing is Standing.OLDER:
        return f"the schema is of an older version ({revision})", f"back the database up and {upgrade}"
    return (
        f"the schema is at {revision}, which this version does not know",
        "install the version of Explorer that made it, or correct the database's name",
    )


def check_bot(setup: Setup) -> str:
    with setup.db.transaction() as session:
        row = session.get(Bot, setup.config.bot_id)
    if row is None:
        raise NotExamined(f"because bot {setup.config.bot_id} has never run here: its first start makes its rows")
    if row.user_id != setup.config.user_id:
        raise AtFault(
            WrongSetting(
                "user_id",
                f"got {setup.config.user_id}, but what bot {row.bot_id} has in the database is of account "
                f"{row.user_id}",
                "correct user_id, or give another account a bot_id of its own",
            )
        )
    setup.is_enrolled = True
    if row.stopped_at is not None:
        problem = f"the bot is stopped since {row.stopped_at:%F %T} UTC: {row.stop_reason}"
        raise AtFault(WrongSetting("bots.stopped_at", problem, "mend that, and clear the column"))
    return f"{row.bot_id} is account {row.user_id}" + (f", @{row.handle}" if row.handle else "")


CHECKS = (
    Check("database", check_database, ("environment",)),
    Check("schema", check_schema, ("database",)),
    Check("bot", check_bot, ("config", "schema")),
)
