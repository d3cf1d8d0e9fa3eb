"""The command that begins: init."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.common import DEFAULT_CONFIG, Config

if TYPE_CHECKING:
    from app.firststeps import Answers

app = typer.Typer()
ENV = Path(".env")


@app.command()
def init(
    config: Config = DEFAULT_CONFIG,
    examine: Annotated[bool, typer.Option(help="Run `explorer doctor` on what was written.")] = True,
) -> None:
    """Ask for what a bot needs, write its config and .env, and check them. Nothing is overwritten."""
    from app import firststeps
    from app.loading import ConfigError

    try:
        firststeps.refuse_existing(config, ENV)
        firststeps.write(_ask(), config, ENV)
    except (firststeps.FirstStepsError, ConfigError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    typer.echo(f"\nwrote {config} (a dry run: nothing is posted before `live: true`) and {ENV}")
    if examine:
        from app import environment
        from app.cli.doctor import doctor

        environment.adopt()
        doctor(config, running=False, only=None, as_json=False)


def _ask() -> Answers:
    from app import firststeps

    typer.secho("The account. ", bold=True, nl=False)
    typer.echo(
        "Four keys of an app with read and write permission, from X's developer portal, the access token made for the "
        "bot's own account. Leave the first empty to fill them in later.\n"
    )
    keys: dict[str, str] = {}
    for name in firststeps.KEYS:
        keys[name] = typer.prompt(name, hide_input=name != firststeps.KEYS[0], default="", show_default=False)
        if not keys[firststeps.KEYS[0]]:
            break
    user_id = firststeps.user_id_of(keys.get("X_ACCESS_TOKEN", ""))
    if user_id is None:
        user_id = typer.prompt("numeric id of the bot's account")
    typer.secho("\nThe community and the persona.\n", bold=True)
    return firststeps.Answers(
        user_id=user_id,
        handles=firststeps.words(typer.prompt("handles that it begins with, with commas between")),
        name=typer.prompt("its name", default="Explorer"),
        description=typer.prompt("who it is, in a sentence"),
        tone=typer.prompt("how it speaks", default="curious, warm, brief"),
        interests=firststeps.words(typer.prompt("what it posts about, with commas between")),
        keys=keys,
    )
