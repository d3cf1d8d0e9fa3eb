"""The jump start: `explorer data-set`, `jump-start`, `kickoff`; and `forget`, which takes words out again."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.common import DEFAULT_CONFIG, Config, bot

if TYPE_CHECKING:
    from app.context import BotContext
    from app.data.estimate import Estimate
    from app.data.gathering import Gathered, Progress

app = typer.Typer()
Yes = Annotated[bool, typer.Option("--yes", help="Agree to what it will cost, without being asked.")]


@app.command("data-set")
def data_set(
    yes: Yes = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Remove the data set there is and begin anew.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait for X's windows rather than end and be called again.")] = True,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Gather the posts that the jump start trains on; goes on where it was. Says what it will cost, and asks."""
    from app.community import load_community
    from app.data import manifest
    from app.data.gathering import gather
    from app.loops import PutOff

    context = bot(config)
    if fresh:
        with context.db.transaction() as session:
            manifest.discard(session, context.config)
    try:
        if context.config.sft.source == "x":
            load_community(context.db, context.x, context.config)
        with progress_line() as line:
            found = gather(context, agree=asker(yes=yes), report=line, wait=wait)
    except PutOff as put_off:
        when = f"from {put_off.until:%F %T} UTC (world time)" if put_off.until else "later"
        typer.echo(f"{put_off}\neverything read so far is kept; call it again {when}", err=True)
        raise typer.Exit(1) from None
    typer.echo(summary(found))


@app.command("history")
def history(
    archive: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="The zip that X's 'Download your data' gave you.")
    ],
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Take in what the account posted before the bot, with what it earned; may be run again with a newer archive."""
    from app import earlier
    from app.data.history import take_in, why_not
    from app.data.sources import ArchiveSource

    context, source = bot(config), ArchiveSource(archive)
    if (reason := why_not(context.config, source)) is not None:
        raise typer.BadParameter(f"{reason}; name the archive of the bot's own account", param_hint="ARCHIVE")
    changed = take_in(context.db, context.config, source)
    with context.db.transaction() as session:
        known = earlier.summary(session, context.config.bot_id)
    typer.echo(f"{changed:,} new or with other counts; {known or 'no earlier post is known'}")


@app.command("jump-start")
def jump_start(config: Config = DEFAULT_CONFIG) -> None:
    """Train on the data set in this process; the adapter becomes the reference. Goes on where it was stopped."""
    from app.data.jump_start import train

    outcome = train(bot(config), report=show_step)
    typer.echo(f"{outcome.state}: {outcome.reason or outcome.checkpoint_id}")
    for name, value in sorted(outcome.metrics.items()):
        typer.echo(f"  {name} {value:.4g}")
    if outcome.state == "skipped":
        raise typer.Exit(1)


@app.command("kickoff")
def kickoff(
    yes: Yes = False,
    here: Annotated[
        bool, typer.Option("--here", help="Gather and train in this process, not on the I/O workers and training node.")
    ] = False,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Databases, community, data set, training, loops: whatever of it is not done yet. May be interrupted anywhere."""
    from app.context import BotContext
    from app.kickoff import Hands, StepFailed, kick_off
    from app.loading import load_config
    from app.loops import PutOff

    def send(task: str) -> None:
        from app.celery import app as celery

        celery.send_task(task)

    context = BotContext(load_config(config))
    hands = Hands(
        agree=asker(yes=yes),
        say=typer.echo,
        send=None if here else lambda: send("app.tasks.jump_start"),
        send_pages=None if here else lambda: send("app.tasks.data_set"),
        gathering=progress_lines(),
        training=show_step,
    )
    try:
        kick_off(context, hands)
    except (PutOff, StepFailed) as error:
        typer.echo(f"{error}\nwhat is done stays done; call it again", err=True)
        raise typer.Exit(1) from None


@app.command("forget")
def forget(
    subject: Annotated[str, typer.Argument(metavar="USER_OR_POST", help="@handle, or the X id of a user or a post.")],
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Remove a user, or a post, from databases and files, and never store it again. Interrupted, run it again."""
    from app.data.clearing import clear_files
    from app.data.forgetting import BY_HAND
    from app.data.forgetting import forget as remove

    context = bot(config)
    x_id = _x_id(context, subject)
    if x_id == context.config.user_id:
        raise typer.BadParameter(f"{subject!r} is the bot itself; `explorer delete` takes back a post of it")
    typer.echo(f"forgetting {x_id}; if this is interrupted, `explorer forget {x_id}` goes on")
    with context.db.transaction() as session:
        removed = remove(session, context.config, [x_id], BY_HAND)
    clear_files(context.db, context.config)
    typer.echo(
        f"forgotten: {removed.posts} posts of theirs, {removed.prompts} prompts that held them; "
        f"{removed.unsent} queued posts of ours will not be sent"
    )


def _x_id(context: BotContext, subject: str) -> str:
    """The X id that a person means: digits are one, anything else is a handle, here or else at X."""
    from app.connectors.community_db import CommunityDB

    if subject.isascii() and subject.isdigit():
        return subject
    handle = subject.removeprefix("@")
    with context.db.transaction() as session:
        known = CommunityDB(session, context.config.bot_id).id_of(handle)
    if known is not None:
        return known
    found, missing = context.x.resolve_handles([handle])
    if handle not in found:
        raise typer.BadParameter(
            f"nobody here is called {handle!r}, and X says: {missing[handle]}; give the X id of the user",
            param_hint="USER_OR_POST",
        )
    return found[handle].user_id


def show_step(step: int, steps: int, metrics: dict[str, float]) -> None:
    """One line for a step of a training."""
    shown = ", ".join(f"{name.removeprefix('sft/')} {value:.4g}" for name, value in metrics.items())
    typer.echo(f"step {step}/{steps}: {shown}", err=True)


def asker(*, yes: bool) -> Callable[[Estimate], bool]:
    """How a person agrees: by `--yes`, or when asked at a terminal; from anywhere else nobody has agreed."""
    import sys

    def agree(expected: Estimate) -> bool:
        typer.echo(f"The data set: {expected}.")
        return yes or (sys.stdin.isatty() and typer.confirm("Go on?"))

    return agree


def summary(found: Gathered) -> str:
    """What was gathered, in a few lines."""
    dropped = ", ".join(f"{name} {count}" for name, count in sorted(found.dropped.items())) or "nothing"
    return (
        f"{found.posts:,} posts, some {found.tokens:,} tokens, in {found.files} file(s) in {found.directory}\n"
        f"dropped: {dropped}\nspent: ${found.usd:.2f}; {found.reason}"
    )


def how_far(progress: Progress) -> str:
    """How far gathering is, in a line."""
    left = f", {timedelta(seconds=round(progress.left.total_seconds()))} left" if progress.left else ""
    return (
        f"{progress.posts:,} posts, {progress.tokens:,} tokens, ${progress.usd:.2f}, "
        f"{progress.accounts_left} account(s) to go, {progress.rate:,.0f} posts/s{left}"
    )


def progress_lines(seconds: float = 10.0) -> Callable[[Progress], None]:
    """Says how far gathering is, in a line of its own, no more often than this; for logs as well as terminals."""
    last: tuple[float, int] = (-seconds, -1)

    def show(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last[0] >= seconds and progress.posts != last[1]:
            last = (time.monotonic(), progress.posts)
            typer.echo(f"data_set: {how_far(progress)}", err=True)

    return show


class progress_line:  # noqa: N801 - used as a context manager
    """One line that shows how far gathering is; on a terminal only."""

    def __enter__(self) -> progress_line:
        from rich.console import Console

        self._status = Console(stderr=True).status("reading")
        self._status.start()
        return self

    def __call__(self, progress: Progress) -> None:
        self._status.update(how_far(progress))

    def __exit__(self, *_: object) -> None:
        self._status.stop()
