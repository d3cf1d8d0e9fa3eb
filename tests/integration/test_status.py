"""`explorer status`: to read, to read again and again, and for machines."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from app import clock, loops
from app.config import BudgetConfig, VibeBotConfig
from app.schedule import LoopName
from dbs.models import Bot, LedgerEntry
from dbs.session import Database

Run = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def run(tmp_path: Path, config: VibeBotConfig, database: Database, bot: Bot, database_url: str) -> Run:
    """Starts the command for a bot that spent 1.50 dollars on each of four days, and whose timeline is held."""
    file = tmp_path / "explorer.yaml"
    capped = config.model_copy(update={"budget": BudgetConfig(max_usd_per_month=60)})
    file.write_text(yaml.safe_dump(capped.model_dump(mode="json")))
    with database.transaction() as session:
        loops.ensure(session, config)
        loops.pause(session, config.bot_id, "for the test", [LoopName.TIMELINE])
        for days in range(4):
            session.add(LedgerEntry(
                bot_id=bot.bot_id, endpoint="GET /2/tweets", at=clock.now() - timedelta(days=days, seconds=1),
                reserved_usd=Decimal("1.5"), cost_usd=Decimal("1.5"),
            ))  # fmt: skip
    # A terminal that is too low shows the upper part only.
    terminal = {"TERM": "xterm", "LINES": "60", "COLUMNS": "120"}
    env = os.environ | terminal | {"EXPLORER_CONFIG": str(file), "DATABASE_URL": database_url}

    def start(*arguments: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "app.cli", "status", *arguments]
        return subprocess.Popen(command, env=env, stdout=stdout, stderr=subprocess.PIPE, text=True)

    return start


def test_it_tells_what_is_to_come_beside_the_cap(run: Run) -> None:
    out, err = run().communicate(timeout=60)
    assert err == ""
    (line,) = [line for line in out.splitlines() if "next 30 days" in line]
    assert [cell.strip() for cell in line.strip("│ ").split("│")] == ["next 30 days, at this pace", "", "45.000", "60"]
    assert "paused: for the test" in out


def test_a_machine_reads_the_same(run: Run) -> None:
    out, _ = run("--json").communicate(timeout=60)
    told = json.loads(out)
    assert (told["bot_id"], told["live"], told["next_30_days_usd"]) == ("explorer", True, 45.0)
    assert [(span["span"], span["requests"], span["cap_usd"]) for span in told["spent"]] == [
        ("24 hours", 1, 5.0), ("30 days", 4, 60.0)
    ]  # fmt: skip
    (timeline,) = [loop for loop in told["loops"] if loop["loop"] == "timeline"]
    assert (timeline["due_in"], timeline["paused"]) == (None, "for the test")
    assert {loop["loop"] for loop in told["loops"]} == {loop.value for loop in LoopName}


def test_it_can_be_watched_until_somebody_ends_it(run: Run) -> None:
    screen, end = os.openpty()
    watching = run("--watch", "0.3", stdout=end)
    os.close(end)
    seen = b""
    while seen.count(b"next 30 days") < 3:  # each time it is drawn anew
        seen += os.read(screen, 4096)
    watching.send_signal(signal.SIGINT)
    with contextlib.suppress(OSError):  # so a terminal says that its other side is gone
        while os.read(screen, 4096):
            pass
    assert watching.wait(30) == 130
    os.close(screen)
