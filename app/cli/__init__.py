"""`explorer …`: the command line. Everything heavy is imported by the command that needs it, so that help is quick.

Exit codes: 0 done, 1 it ran and something was wrong, 2 the command or the config cannot be used, 130 interrupted.
"""

from __future__ import annotations

import sys

import typer

from app.cli import (
    approval,
    backtest,
    checkpoints,
    community,
    console,
    doctor,
    export,
    init,
    jump_start,
    learning,
    login,
    loop,
    monitor,
    persona,
    sandbox,
    trace,
)

app = typer.Typer(
    name="explorer",
    help="A bot on X that joins a community and learns what it answers to.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(init.app)
app.add_typer(login.app)
app.add_typer(loop.app)
app.add_typer(doctor.app)
app.add_typer(monitor.app)
app.add_typer(console.app)
app.add_typer(approval.app)
app.add_typer(backtest.app)
app.add_typer(sandbox.app)
app.add_typer(learning.app)
app.add_typer(trace.app)
app.add_typer(export.app)
app.add_typer(jump_start.app)
app.add_typer(checkpoints.app, name="checkpoints")
app.add_typer(persona.app, name="persona")
app.add_typer(community.app, name="community")


def main() -> None:
    """The entry point: errors of the operator's are one message, not a traceback."""
    from app import environment

    environment.adopt()
    try:
        app()
    except ValueError as error:
        # Only now: it does not load on a Python that is too old, which `explorer doctor` should get to say.
        from app.loading import ConfigError

        if not isinstance(error, ConfigError):
            raise
        typer.echo(str(error), err=True)
        sys.exit(2)
