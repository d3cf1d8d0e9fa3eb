"""`explorer doctor`: what is wrong with a set-up, and what to do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.common import DEFAULT_CONFIG, Config
from app.doctor.examination import ROOMS, examine

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.doctor.findings import Finding

app = typer.Typer()
STYLES = {"ok": "green", "fault": "bold red", "skipped": "dim"}


@app.command()
def doctor(
    config: Config = DEFAULT_CONFIG,
    running: Annotated[bool, typer.Option("--running", help="The services should run: ask them too.")] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(help=f"Only this of {', '.join(ROOMS)}, and what it needs; may be given again."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for machines.")] = False,
) -> None:
    """Check everything that the bot needs, and say what is wrong and what to do. Exit code 1 if anything is."""
    from app import logs

    if unknown := sorted(set(only or []) - set(ROOMS)):
        raise typer.BadParameter(f"{', '.join(unknown)}: there are {', '.join(ROOMS)}", param_hint="--only")
    logs.configure("ERROR")
    findings = examine(config, running=running, only=only or ROOMS)
    found = list(findings) if as_json else _show(findings)
    faults = sum(finding.state == "fault" for finding in found)
    if as_json:
        from dataclasses import asdict

        typer.echo(json.dumps({"faults": faults, "findings": [asdict(finding) for finding in found]}, indent=2))
    raise typer.Exit(1 if faults else 0)


def _show(findings: Iterable[Finding]) -> list[Finding]:
    """Print each finding as it comes, for some of them take seconds; returns them all."""
    from rich.console import Console
    from rich.text import Text

    console, shown = Console(highlight=False), []
    for finding in findings:
        line = Text.assemble((f"{finding.state:<8}", STYLES[finding.state]), f"{finding.check:<16}")
        if finding.setting:
            line.append(f"{finding.setting}: ", "bold")
        line.append(finding.message)
        if finding.remedy:
            line.append(f"; {finding.remedy}", "cyan")
        console.print(line, soft_wrap=True)
        shown.append(finding)
    faults = sum(finding.state == "fault" for finding in shown)
    console.print(f"{faults} at fault" if faults else "nothing at fault")
    return shown
