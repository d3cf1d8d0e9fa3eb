"""`explorer persona …`: versions of the persona, and taking one back."""

from __future__ import annotations

import typer

from app.cli.common import DEFAULT_CONFIG, Config, bot

app = typer.Typer(help="Versions of the persona.", no_args_is_help=True)


@app.command("list")
def persona_list(config: Config = DEFAULT_CONFIG) -> None:
    """Every version, the newest last."""
    from rich.console import Console
    from rich.table import Table
    from sqlalchemy import select

    from dbs.models import PersonaVersion

    context = bot(config)
    table = Table("version", "state", "origin", "name", "tone", "interests")
    with context.db.transaction() as session:
        rows = select(PersonaVersion).where(PersonaVersion.bot_id == context.config.bot_id)
        for row in session.scalars(rows.order_by(PersonaVersion.version)):
            table.add_row(str(row.version), row.state, row.origin, row.name, row.tone, ", ".join(row.interests))
    Console().print(table)


@app.command("refuse")
def persona_refuse(version: int, config: Config = DEFAULT_CONFIG) -> None:
    """Take a version back for good; its parent becomes current if it was."""
    from app import persona

    context = bot(config)
    try:
        with context.db.transaction() as session:
            now = persona.refuse(session, context.config.bot_id, version)
    except LookupError as error:
        raise typer.BadParameter(str(error), param_hint="VERSION") from None
    typer.echo(f"version {now.version} is current")
