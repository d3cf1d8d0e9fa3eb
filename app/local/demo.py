"""The demo: the whole loop on embedded parts against a sandbox, audited at its end.

It starts afresh each time, shows its progress, ends by itself and says what it found wrong with a non-zero exit.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from app import logs, loops
from app.local.curve import show_curve
from app.local.observer import Observer
from app.local.report import Counts, conversations, count, report
from app.local.sandboxed import BOT_ID, SPEED, config_writer, fetch_model, time_lapse_config
from app.local.stack import SandboxOptions, Stack, alone, running_stack
from app.schedule import LoopName
from dbs.session import Database

ROUNDS = 3
# What a run has to reach, and how long it may take for it, in wall seconds.
MIN_FOLLOWED, MIN_JUDGED, MIN_POSTED = 5, 50, 24
TIME_LIMIT, ROUND_LIMIT = 330.0, 200.0
STILL_AT_THE_END: list[LoopName] = [loop for loop in LoopName if loop not in {LoopName.PUBLISHING, LoopName.ENGAGEMENT}]


def run(
    directory: Path = Path("data/demo"), *, rounds: int = ROUNDS, seed: int = 1, plant_duplicate: bool = False
) -> int:
    """Run the demo and write `report.json` into its directory.

    Args:
        rounds: PPO runs to wait for; 0 shows the loop without learning.
        seed: of the sandbox's community.
        plant_duplicate: forge a duplicate in the sandbox's record, which must make the demo fail.

    Returns:
        0 if it reached its goals and the sandbox's record agrees with our rows, 1 otherwise.

    Raises:
        AlreadyRunning: another demo is running here.
    """
    logs.configure("WARNING")
    console = Console()
    model = fetch_model(console)
    with alone(directory):
        work = directory / "run"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        outcome, talk = _run(console, work, time_lapse_config(work, model), Wanted(rounds, seed, plant_duplicate))
    (directory / "report.json").write_text(json.dumps({**outcome, "conversations": talk}, indent=2, ensure_ascii=False))
    _show(console, outcome, talk, directory)
    return 1 if outcome["failures"] else 0


@dataclass(frozen=True)
class Wanted:
    """What was asked of a demo."""

    rounds: int
    seed: int
    plant_duplicate: bool

    @property
    def time_limit(self) -> float:
        """Wall seconds in which everything must have been posted, learnt and measured."""
        return TIME_LIMIT + ROUND_LIMIT * self.rounds


def _run(
    console: Console, work: Path, config: dict[str, Any], wanted: Wanted
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The figures of the run, and a handful of its conversations."""
    config_file = work / "explorer.yaml"
    options = SandboxOptions(seed=wanted.seed, speed=SPEED)
    started = time.monotonic()
    with running_stack(work, config_file, sandbox=options, before_bot=config_writer(config, config_file)) as stack:
        observer = Observer(stack.env["X_BASE_URL"])
        db = Database(stack.env["DATABASE_URL"])
        try:
            reached = _live(console, stack, db, wanted, started)
            if wanted.plant_duplicate:
                observer.post("plant-duplicate", {})
            outcome = report(db, BOT_ID, observer, time.monotonic() - started)
            if wanted.rounds:
                outcome |= {"gate": "demo", **_measure_lift(console, stack, work.parent / "lift.json")}
            outcome["seconds"] = round(time.monotonic() - started, 1)
            outcome["failures"] += _shortfalls(outcome, wanted, reached=reached)
            with db.transaction() as session:
                talk = conversations(session, BOT_ID, limit=5)
        finally:
            db.close()
    return outcome, talk


def _live(console: Console, stack: Stack, db: Database, wanted: Wanted, started: float) -> bool:
    """Let the loop run until it has learnt often enough, then only publish and measure until all is read twice."""
    winding_up = False
    with Live(console=console, refresh_per_second=2) as live:
        while time.monotonic() - started < wanted.time_limit:
            stack.tend()
            with db.transaction() as session:
                counts = count(session, BOT_ID)
            live.update(_table(counts, time.monotonic() - started, winding_up=winding_up))
            if not winding_up and _enough(counts, wanted.rounds):
                _pause(db, "the demo has seen enough")
                winding_up = True
            if winding_up and counts.queued == 0 and counts.measured_twice >= counts.posted:
                return True
            time.sleep(1.0)
    _pause(db, "the demo's time is up")
    return False


def _pause(db: Database, reason: str) -> None:
    with db.transaction() as session:
        loops.pause(session, BOT_ID, reason, STILL_AT_THE_END)


def _enough(counts: Counts, rounds: int) -> bool:
    posted_enough = counts.posted >= MIN_POSTED and counts.judged >= MIN_JUDGED
    return posted_enough and counts.own_posts > 0 and counts.replies > 0 and counts.ppo_runs >= rounds


def _measure_lift(console: Console, stack: Stack, file: Path) -> dict[str, Any]:
    """Have every served checkpoint write on held-out topics; in a process of its own, as it needs torch."""
    console.print("Measuring the true lift on topics that nobody posted on …")
    command = [sys.executable, "-m", "app.local.lift", "--out", str(file)]
    subprocess.run(command, env={**os.environ, **stack.env, "EXPLORER_LOG_LEVEL": "WARNING"}, check=True)
    return dict(json.loads(file.read_text()))


def _shortfalls(outcome: dict[str, Any], wanted: Wanted, *, reached: bool) -> list[str]:
    least = {
        "followed": MIN_FOLLOWED,
        "judged": MIN_JUDGED,
        "posted": MIN_POSTED,
        "replies": 1,
        "own_posts": 1,
        "ppo_runs": wanted.rounds,
    }
    short = [f"{name} is {outcome[name]}, wanted {few}" for name, few in least.items() if outcome[name] < few]
    if not reached:
        read = f"{outcome['measured_twice']} of {outcome['posted']} posts were measured at two ages"
        short.append(f"after {wanted.time_limit:.0f} s the loop was not through; {read}")
    return short


def _table(counts: Counts, seconds: float, *, winding_up: bool) -> Table:
    doing = "measuring" if winding_up else "reading, writing, measuring"
    table = Table(title=f"Explorer, {seconds:.0f} s, {doing}{', learning' if counts.training else ''}")
    shown = {
        "followed": counts.followed,
        "judged": counts.judged,
        "drafted": counts.drafted,
        "refused": counts.refused,
        "posted": counts.posted,
        "measured": counts.snapshots,
        "came back": counts.talk,
        "rewarded": counts.rewarded,
        "PPO runs": counts.ppo_runs,
        "served": counts.promoted,
    }
    for heading in shown:
        table.add_column(heading, justify="right")
    row = shown.values()
    table.add_row(*(str(value) for value in row))
    return table


def _show(console: Console, outcome: dict[str, Any], talk: list[dict[str, Any]], directory: Path) -> None:
    for item in talk:
        console.rule(style="dim")
        if item["answered"]:
            console.print(f"[bold]@{item['handle']}[/]: {item['answered']}", highlight=False)
        console.print(f"  [green]↳ {item['content']}[/]", highlight=False)
        console.print(f"    {item['likes']} likes, {item['retweets']} reposts, {item['replies']} replies", style="dim")
        for said in item["said"]:
            console.print(f"    ← {said}", style="dim", highlight=False)
    table = Table(title="The run")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in outcome.items():
        if name not in {"failures", "curve"}:
            table.add_row(name, str(value))
    console.print(table)
    if "curve" in outcome:
        show_curve(console, outcome["curve"])
    for failure in outcome["failures"]:
        console.print(f"[red]✗ {failure}[/]", highlight=False)
    console.print(f"The report is in {directory / 'report.json'}")
