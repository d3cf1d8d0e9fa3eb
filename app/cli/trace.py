"""`explorer trace ID`: everything that belongs together, from a timeline post to a checkpoint."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.common import DEFAULT_CONFIG, Config, bot

app = typer.Typer()


@app.command()
def trace(
    wanted: Annotated[str, typer.Argument(metavar="ID", help="Of a timeline post, of a draft, or of a post of ours.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Show how something came about and what became of it: read, judged, written, sent, measured, learnt from."""
    import json
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Column, Table

    from app import trace as room

    context = bot(config)
    try:
        with context.db.transaction() as session:
            trace_id = room.trace_id(session, context.config.bot_id, wanted)
            steps = room.trace(session, context.config.bot_id, trace_id)
    except LookupError as error:
        raise typer.BadParameter(str(error), param_hint="ID") from None
    if as_json:
        told = {"trace": trace_id, "steps": [asdict(step) for step in steps]}
        typer.echo(json.dumps(told, default=str, indent=2, ensure_ascii=False))
        return
    table = Table("step", Column("at, UTC", no_wrap=True), "id", "", title=f"trace {trace_id}")
    for step in steps:
        at = f"{step.at:%F %T}{' (wall)' if step.clock == 'wall' else ''}" if step.at else ""
        table.add_row(step.what, at, f"{step.id[0]}\n{step.id[1]}", step.detail)
    Console().print(table)
