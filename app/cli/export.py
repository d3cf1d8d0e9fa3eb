"""The command that hands everything out: export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.common import DEFAULT_CONFIG, Config, bot

app = typer.Typer()


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="Directory to write into; made if it is not there.")],
    table: Annotated[list[str] | None, typer.Option(help="Only this table; may be given again.")] = None,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Write everything that is known of the bot as JSONL, a file per table (dbs/readme.md explains each column)."""
    from rich.console import Console
    from rich.table import Table

    from app.export import ExportError
    from app.export import export as write

    context = bot(config)
    try:
        with context.db.transaction() as session:
            session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            counts = write(session, context.config.bot_id, out, table or [])
    except ExportError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    shown = Table("file", "rows")
    for name, count in counts.items():
        shown.add_row(str(out / f"{name}.jsonl"), str(count))
    Console().print(shown)
