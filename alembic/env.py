"""Alembic's entry. The database is the one that the bot itself uses: DATABASE_URL from the environment or `.env`."""

from __future__ import annotations

from sqlalchemy import create_engine, pool

from alembic import context
from app.loading import load_secrets
from dbs.models import Base


def url() -> str:
    """The URL given by a caller in Python (the tests), or the deployment's own."""
    return context.config.attributes.get("url") or load_secrets().database_url.get_secret_value()


def run() -> None:
    if context.is_offline_mode():
        context.configure(url=url(), target_metadata=Base.metadata, literal_binds=True)
        with context.begin_transaction():
            context.run_migrations()
        return
    engine = create_engine(url(), poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=Base.metadata, compare_type=True)
        with context.begin_transaction():
            # Two containers that start at once must not both migrate.
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7305803)")
            context.run_migrations()
    engine.dispose()


run()
