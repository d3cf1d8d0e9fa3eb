"""The command that watches the bot from outside: monitor."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.common import DEFAULT_CONFIG, Config, bot

app = typer.Typer()


@app.command()
def monitor(
    config: Config = DEFAULT_CONFIG,
    address: Annotated[str, typer.Option(help="Where /metrics is served.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Its port; 0 takes a free one.")] = 9464,
    once: Annotated[bool, typer.Option(help="Look once, print what is wrong; exit code 1 if something is.")] = False,
) -> None:
    """Watch the bot: metrics for Prometheus, alarms by webhook and mail. A service of its own."""
    import signal
    import threading

    from app.monitor.notify import channels
    from app.monitor.service import Monitor

    context = bot(config)
    if once:
        found = Monitor(context.db, context.config, []).look()
        for alarm in found:
            typer.echo(f"{alarm.name}: {alarm.text}")
        raise typer.Exit(1 if found else 0)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, lambda *_: ended.set())
    Monitor(context.db, context.config, channels(context.secrets)).run(address, port, ended)
