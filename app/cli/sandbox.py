"""`explorer sandbox`: an X of our own, alone. A process of its own, because no other code may know what is in it."""

from __future__ import annotations

import os
import sys

import typer

app = typer.Typer()


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)
def sandbox(context: typer.Context) -> None:
    """Serve an X of our own with a community in it, and a page to look at; --help lists its options."""
    os.execv(sys.executable, [sys.executable, "-m", "app.sandbox", *context.args])  # noqa: S606 - our own module
