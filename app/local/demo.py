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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
TIME_LIMIT, ROUND_LIMIT = 330.0, 300.0
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
        running = _Running(console, stack, db, wanted, started)
        try:
            learnt = running.live()
            with _measuring_lift(stack, work.parent / "lift.json", wanted.rounds) as lift:
                reached = running.wind_up() and learnt
                if wanted.plant_duplicate:
                    observer.post("plant-duplicate", {})
                outcome = report(db, BOT_ID, observer, running.seconds)
                outcome |= lift()
            outcome["seconds"] = round(running.seconds, 1)
            outcome["failures"] += _shortfalls(outcome, wanted, reached=reached)
            with db.transaction() as session:
                talk = conversations(session, BOT_ID, limit=5)
        finally:
            db.close()
    return outcome, talk


@dataclass(frozen=True)
class _Running:
    """A demo under way. `started` is of the monotonic clock."""

    console: Console
    stack: Stack
    db: Database
    wanted: Wanted
    started: float

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def live(self) -> bool:
        """Let the loop run until it has learnt often enough; False if its time was up before."""
        reached = self._watch(lambda counts: _enough(counts, self.wanted.rounds))
        _pause(self.db, "the demo has seen enough" if reached else "the demo's time is up")
        return reached

    def wind_up(self) -> bool:
        """Only publish and measure, until everything posted is read twice; False if its time was up before."""
        return self._watch(
            lambda counts: counts.queued == 0 and counts.measured_twice >= counts.posted, winding_up=True
        )

    def _watch(self, over: Callable[[Counts], bool], *, winding_up: bool = False) -> bool:
        """Show the counts until they say that it is over, or the time is up."""
        with Live(console=self.console, refresh_per_second=2) as live:
            while self.seconds < self.wanted.time_limit:
                self.stack.tend()
                with self.db.transaction() as session:
                    counts = count(session, BOT_ID)
                live.update(_table(counts, self.seconds, winding_up=winding_up))
                if over(counts):
                    return True
                time.sleep(1.0)
        return False


def _pause(db: Database, reason: str) -> None:
    with db.transaction() as session:
        loops.pause(session, BOT_ID, reason, STILL_AT_THE_END)


def _enough(counts: Counts, rounds: int) -> bool:
    posted_enough = counts.posted >= MIN_POSTED and counts.judged >= MIN_JUDGED
    return posted_enough and counts.own_posts > 0 and counts.replies > 0 and counts.ppo_runs >= rounds


@contextmanager
def _measuring_lift(stack: Stack, file: Path, rounds: int) -> Iterator[Callable[[], dict[str, Any]]]:
    """Have every served checkpoint write on topics that nobody posted on, while the last posts are being measured.

    In a process of its own, as it needs torch. What is yielded waits for it and returns what it found; without rounds
    there is nothing to compare.
    """
    if not rounds:
        yield dict
        return
    command = [sys.executable, "-m", "app.local.lift", "--out", str(file)]
    process = subprocess.Popen(command, env={**os.environ, **stack.env, "EXPLORER_LOG_LEVEL": "WARNING"})

    def found() -> dict[str, Any]:
        if code := process.wait():
            raise subprocess.CalledProcessError(code, command)
        return {"gate": "demo", **json.loads(file.read_text())}

    try:
        yield found
    finally:
        process.kill()
        process.wait()


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
