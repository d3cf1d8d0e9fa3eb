"""`explorer checkpoints …`: what the bot can write with, and moving it by hand. None of it needs torch."""

from __future__ import annotations

import json
import uuid
from typing import Annotated

import typer

from app.cli.common import DEFAULT_CONFIG, Config, bot

app = typer.Typer(help="Checkpoints: list, show, promote, roll back, prune.", no_args_is_help=True)
CheckpointId = Annotated[str, typer.Argument(help="Id of the checkpoint, as `list` shows it.")]


@app.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False, config: Config = DEFAULT_CONFIG
) -> None:
    """Every checkpoint, the newest first."""
    from rich.console import Console
    from rich.table import Column, Table

    from app.policy import registry

    context = bot(config)
    with context.db.transaction() as session:
        rows = [
            {
                "id": str(row.checkpoint_id),
                "kind": row.kind,
                "state": row.state,
                "serves as": ", ".join(
                    name for name, held in (("current", row.is_current), ("reference", row.is_reference)) if held
                ),
                "parent": str(row.parent_id or ""),
                "made": f"{row.created_at:%F %T}",
            }
            for row in registry.listing(session, context.config.bot_id)
        ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table(Column("id", no_wrap=True), "kind", "state", "serves as", "parent", "made")
    for row in rows:
        table.add_row(*(row | {"parent": row["parent"][:8]}).values())
    Console().print(table)


@app.command()
def show(checkpoint_id: CheckpointId, config: Config = DEFAULT_CONFIG) -> None:
    """The manifest of a checkpoint and what the gate said of it, as JSON."""
    from sqlalchemy import select

    from app.policy import registry
    from dbs.models import GateVerdict

    context = bot(config)
    with _clear_errors(), context.db.transaction() as session:
        row = registry.get(session, context.config.bot_id, uuid.UUID(checkpoint_id))
        verdicts = session.scalars(select(GateVerdict).where(GateVerdict.checkpoint_id == row.checkpoint_id))
        shown = {
            "state": row.state,
            "manifest": row.manifest,
            "verdicts": [
                {"passed": verdict.passed, "profile": verdict.profile, "reasons": verdict.reasons, **verdict.numbers}
                for verdict in verdicts
            ],
        }
    typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))


@app.command()
def promote(checkpoint_id: CheckpointId, config: Config = DEFAULT_CONFIG) -> None:
    """Make a checkpoint current by hand, whatever the gate said. The running bot writes with it from its next batch."""
    from app.policy import registry
    from app.policy.roots import root_of

    context = bot(config)
    with _clear_errors(), context.db.transaction() as session:
        row = registry.promote(session, root_of(context.config), context.config.bot_id, uuid.UUID(checkpoint_id))
    _announce(row.checkpoint_id)


@app.command()
def rollback(config: Config = DEFAULT_CONFIG) -> None:
    """Make the parent of the current checkpoint current; the one left counts as refused."""
    from app.policy import registry
    from app.policy.roots import root_of

    context = bot(config)
    with _clear_errors(), context.db.transaction() as session:
        row = registry.rollback(session, root_of(context.config), context.config.bot_id)
    _announce(row.checkpoint_id)


@app.command()
def prune(
    keep: Annotated[int, typer.Option(min=0, help="How many of those that nothing needs to keep.")] = 5,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Remove the files of old checkpoints. What is served, or was learnt from since, stays; so do all rows."""
    from app.policy import registry
    from app.policy.roots import root_of

    context = bot(config)
    with _clear_errors(), context.db.transaction() as session:
        pruned = registry.prune(session, root_of(context.config), context.config.bot_id, keep)
    typer.echo(f"removed the files of {len(pruned)} checkpoint(s)")


def _announce(checkpoint_id: uuid.UUID) -> None:
    from app.reloading import announce

    typer.echo(f"{checkpoint_id} is current")
    if not announce():
        typer.echo("the broker does not answer; the bot swaps at its next batch", err=True)


class _clear_errors:  # noqa: N801 - used as a context manager
    """What a person can mend is one line and exit code 2, not a traceback."""

    def __enter__(self) -> None:
        """Nothing to set up."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        from app.policy.checkpoints import CheckpointError

        if isinstance(error, CheckpointError | ValueError):
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from None
