"""Commands that prove: a backtest and its lift, a proof made of several, several communities side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def backtest(
    *,
    community: Annotated[str, typer.Option(help="Name of a shipped community, or its file.")] = "default",
    mechanism: Annotated[str, typer.Option(help="taste, or bounded_confidence.")] = "taste",
    posts: Annotated[int | None, typer.Option(min=1, help="Posts after which nothing new is written.")] = None,
    updates: Annotated[int | None, typer.Option(min=1, help="Applied updates after which it ends.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the community and of the author's choices.")] = 1,
    shuffle: Annotated[bool, typer.Option("--shuffle", help="The control arm: rewards are shuffled.")] = False,
    oracle: Annotated[bool, typer.Option("--oracle", help="Learn from what drafts truly earn on average.")] = False,
    gate: Annotated[str, typer.Option(help="production, demo or open; open passes whatever is finite.")] = "open",
    model: Annotated[Path | None, typer.Option(help="Directory of the base model; SmolLM2-135M if left out.")] = None,
    out: Annotated[Path, typer.Option(help="Where report.json and lift.png go.")] = Path("data/backtest"),
) -> None:
    """Run the whole loop in virtual time against a sandbox, and measure what it learnt."""
    from app.local.machine import have_the_machine

    have_the_machine()
    from rich.console import Console

    from app.learning.gate import PROFILES
    from app.local import backtest as local_backtest
    from app.local.sandboxed import fetch_model
    from app.local.stack import AlreadyRunning
    from app.local.virtual import MECHANISMS

    if posts is None and updates is None:
        raise typer.BadParameter("give an end: --posts, --updates, or both", param_hint="--posts")
    if shuffle and oracle:
        raise typer.BadParameter("a run has one arm: give --shuffle or --oracle, not both", param_hint="--oracle")
    if gate not in PROFILES:
        raise typer.BadParameter(f"got {gate!r}; profiles are {', '.join(PROFILES)}", param_hint="--gate")
    if mechanism not in MECHANISMS:
        raise typer.BadParameter(f"got {mechanism!r}; use {' or '.join(MECHANISMS)}", param_hint="--mechanism")
    console = Console()
    plan = local_backtest.Plan(
        model=(model or fetch_model(console)).resolve(),
        seed=seed,
        community=community,
        mechanism=mechanism,  # type: ignore[arg-type] # it is one of the mechanisms' names
        updates=updates,
        posts=posts,
        arm="shuffled" if shuffle else "oracle" if oracle else "trained",
        gate=gate,  # type: ignore[arg-type] # it is one of the profiles' names
    )
    try:
        found = local_backtest.run(plan, out)
    except (AlreadyRunning, local_backtest.BacktestError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2 if isinstance(error, AlreadyRunning) else 1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    local_backtest.show(console, found, out)
    raise typer.Exit(1 if found["failures"] else 0)


@app.command()
def lift(
    directory: Annotated[Path, typer.Argument(help="The --out of a backtest that has ended.")] = Path("data/backtest"),
    *,
    drafts: Annotated[int, typer.Option(min=1, help="Of each prompt, by the first and the last checkpoint.")] = 24,
    model: Annotated[Path | None, typer.Option(help="Directory of the base model; SmolLM2-135M if left out.")] = None,
) -> None:
    """Measure the lift of a backtest again: the more drafts of each prompt, the narrower its interval."""
    from app.local.machine import have_the_machine

    have_the_machine()
    from rich.console import Console

    from app.local import backtest as local_backtest
    from app.local import lift_again
    from app.local.sandboxed import fetch_model
    from app.local.stack import AlreadyRunning

    console = Console()
    try:
        found = lift_again.run(directory, model=(model or fetch_model(console)).resolve(), drafts=drafts)
    except (AlreadyRunning, local_backtest.BacktestError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    local_backtest.show(console, found, directory)


@app.command()
def prove(
    *,
    seeds: Annotated[int, typer.Option(min=2, help="Seeds of each arm.")] = 4,
    updates: Annotated[int, typer.Option(min=1, help="Applied updates of each run.")] = 4,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time; as many as fit if left out.")] = None,
    community: Annotated[str, typer.Option(help="Name of a shipped community, or its file.")] = "default",
) -> None:
    """Prove that learning works: trained against shuffled rewards, several seeds each. Goes on where it was."""
    from app.local import prove as local_prove
    from app.local.stack import AlreadyRunning

    try:
        code = local_prove.run(seeds=seeds, updates=updates, jobs=jobs, community=community)
    except (AlreadyRunning, local_prove.ProofError) as error:
        typer.echo(str(error), err=True)
        code = 2 if isinstance(error, AlreadyRunning) else 1
    except KeyboardInterrupt:
        code = 130
    raise typer.Exit(code)


@app.command()
def compare(
    directories: Annotated[
        list[Path] | None, typer.Argument(help="Directories of backtests (their --out); none: of what is kept.")
    ] = None,
    *,
    document: Annotated[Path, typer.Option(help="Where the tables go, between their markers.")] = Path(
        "docs/communities.md"
    ),
    kept: Annotated[Path, typer.Option(help="Where reports and the plot are kept.")] = Path("docs/backtests"),
) -> None:
    """Put backtests of several communities and arms side by side, as a document with a plot."""
    from app.local import compare as local_compare

    try:
        tables = local_compare.run(directories or [], document=document, kept=kept)
    except local_compare.CompareError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    typer.echo(tables)
