"""The command that serves the console: console."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.common import DEFAULT_CONFIG, Config, bot

app = typer.Typer()


@app.command()
def console(
    config: Config = DEFAULT_CONFIG,
    address: Annotated[str, typer.Option(help="Where it is served.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Its port.")] = 8765,
    https: Annotated[bool, typer.Option(help="Browsers reach it by TLS only (a proxy in front of it).")] = False,
) -> None:
    """Serve the console: what the bot says and why, approvals, learning, costs, and a button that holds it."""
    import uvicorn

    from app.console.server import create

    context = bot(config)
    password = context.secrets.console_password
    if password is None or len(password.get_secret_value()) < 8:
        typer.echo("CONSOLE_PASSWORD: not set, or under 8 characters; set it in the environment or in .env", err=True)
        raise typer.Exit(2)
    uvicorn.run(create(context, password.get_secret_value(), https=https), host=address, port=port, log_level="warning")
