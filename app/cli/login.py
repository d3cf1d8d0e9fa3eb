"""The command that lets the bot into its account with OAuth 2.0: login."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.common import DEFAULT_CONFIG, Config, bot

if TYPE_CHECKING:
    from pydantic import SecretStr

    from app.callback import Callback

app = typer.Typer()


@app.command()
def login(
    config: Config = DEFAULT_CONFIG,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of the callback http://127.0.0.1:PORT/callback.")
    ] = 8766,
    paste: Annotated[
        bool, typer.Option("--paste", help="The browser is elsewhere: paste the address that it is sent to.")
    ] = False,
    browser: Annotated[bool, typer.Option(help="Open X's page.")] = True,
    minutes: Annotated[float, typer.Option(min=0.01, help="How long to wait for the browser.")] = 10.0,
) -> None:
    """Let the bot into its account with OAuth 2.0 (X_CLIENT_ID, X_CLIENT_SECRET). The four keys need no login."""
    from app import login as steps
    from app.callback import HOST, PATH, Callback
    from app.x.oauth2 import LoginRefused

    context = bot(config)
    try:
        consent = steps.begin(context, f"http://{HOST}:{port}{PATH}")
        callback = None if paste else Callback(port)
        typer.echo(f"Logged in to X as the bot's account, open this page and let the app in:\n\n{consent.address}\n")
        if browser and not paste:
            import webbrowser

            webbrowser.open(consent.address)
        user = steps.admit(context, consent.redeem(_redirected(callback, minutes)))
    except OSError as error:
        typer.echo(
            f"--port: {port} cannot be listened on ({error.strerror}); name another, and add it to the app", err=True
        )
        raise typer.Exit(1) from None
    except LoginRefused as refusal:
        typer.echo(str(refusal), err=True)
        raise typer.Exit(1) from None
    typer.echo(f"logged in as @{user.handle}, {user.user_id}; the tokens are renewed by themselves from here on")


def _redirected(callback: Callback | None, minutes: float) -> SecretStr:
    """The address to which X has sent the browser.

    Raises:
        LoginRefused: none came in time.
    """
    from pydantic import SecretStr

    from app.x.oauth2 import LOGIN, LoginRefused

    if callback is None:
        typer.echo("The browser is then sent to an address that it may not reach. Its code is good for half a minute.")
        return SecretStr(typer.prompt("that address", hide_input=True))
    came = callback.wait(minutes * 60)
    if came is None:
        raise LoginRefused(
            f"nobody came back from X within {minutes:g} minutes; {LOGIN} again, with --paste if need be"
        )
    return came
