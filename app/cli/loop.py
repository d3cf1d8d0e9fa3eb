"""Commands that run the loop, look at it and hold it: up, demo, status, pause, resume, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.common import DEFAULT_CONFIG, Config, bot

if TYPE_CHECKING:
    from app.schedule import LoopName

app = typer.Typer()


@app.command()
def up(
    config: Config = DEFAULT_CONFIG,
    io_workers: Annotated[int, typer.Option(min=1, help="I/O workers to start.")] = 2,
    sandbox: Annotated[bool, typer.Option(help="Beside an X of our own; needs no keys.")] = False,
    community: Annotated[str, typer.Option(help="Community of the sandbox.")] = "default",
    speed: Annotated[float, typer.Option(min=0.1, max=10_000, help="World seconds per second, in the sandbox.")] = 1.0,
) -> None:
    """Run the whole bot on this machine until Ctrl-C, with PostgreSQL and Redis of its own."""
    from app.local import up as local_up
    from app.local.stack import AlreadyRunning

    try:
        local_up.run(config, io_workers=io_workers, sandbox=sandbox, community=community, speed=speed)
    except AlreadyRunning as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None


@app.command()
def demo(
    rounds: Annotated[int, typer.Option(min=0, help="PPO runs to wait for; 0 shows the loop without learning.")] = 3,
    seed: Annotated[int, typer.Option(help="Seed of the sandbox's community.")] = 1,
    plant_duplicate: Annotated[bool, typer.Option(help="Forge a duplicate in the record: the demo must fail.")] = False,
) -> None:
    """Run the whole loop against a sandbox for some minutes, audit it, and write data/demo/report.json."""
    from app.local import demo as local_demo
    from app.local.stack import AlreadyRunning

    try:
        code = local_demo.run(rounds=rounds, seed=seed, plant_duplicate=plant_duplicate)
    except AlreadyRunning as error:
        typer.echo(str(error), err=True)
        code = 2
    except KeyboardInterrupt:
        code = 130
    raise typer.Exit(code)


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for machines.")] = False,
    watch: Annotated[
        float | None, typer.Option(min=0.2, help="Draw it anew every so many seconds, until Ctrl-C.")
    ] = None,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Show the loops, the posts by state and what was spent, and what that leads to."""
    import json
    from dataclasses import asdict

    from rich.console import Console

    from app import status as room

    context = bot(config)
    if as_json:
        typer.echo(json.dumps(asdict(room.status_of(context)), default=str, indent=2, ensure_ascii=False))
    elif watch is not None:
        try:
            room.watch(context, watch)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
    else:
        Console().print(room.shown(room.status_of(context)))


@app.command()
def pause(
    reason: Annotated[str, typer.Option(help="Why; kept for whoever resumes.")] = "by hand",
    loop: Annotated[list[str] | None, typer.Option(help="Only this loop; may be given again.")] = None,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Refuse further turns until `explorer resume`. What is under way ends first."""
    from app import loops

    context = bot(config)
    with context.db.transaction() as session:
        loops.pause(session, context.config.bot_id, reason, _loops(loop))


@app.command()
def resume(
    loop: Annotated[list[str] | None, typer.Option(help="Only this loop; may be given again.")] = None,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Take turns again."""
    from app import loops

    context = bot(config)
    with context.db.transaction() as session:
        loops.resume(session, context.config.bot_id, _loops(loop))


def _loops(names: list[str] | None) -> list[LoopName] | None:
    from app.schedule import LoopName

    known = [loop.value for loop in LoopName]
    unknown = sorted(set(names or []) - set(known))
    if unknown:
        raise typer.BadParameter(
            f"{', '.join(unknown)}: no such loop; there are {', '.join(known)}", param_hint="--loop"
        )
    return [LoopName(name) for name in names] if names else None


@app.command()
def delete(
    post_id: Annotated[str, typer.Argument(help="Our id of the post (bot_db.post_id).")],
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Take a post of the bot back from X."""
    import uuid

    from app.posting import take_back

    context = bot(config)
    try:
        take_back(context.db, context.x, context.config, uuid.UUID(post_id))
    except (LookupError, ValueError) as error:
        raise typer.BadParameter(str(error), param_hint="POST_ID") from None
