"""Everything goes wrong, again and again, and in the end nothing stands at X twice and nothing is lost.

    make chaos                              as `make test` has it
    make chaos MINUTES=40 FAULTS=300 SEED=7

The plan is printed; the same seed has the same plan. What runs beside it, and so what comes of it, is never the same.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import psutil
import pytest
from chaos_parts import Chaos, End, chaos_stack
from chaos_plan import Happening, draw
from chaos_verdict import Witness, to_settle, verdict
from sqlalchemy.exc import SQLAlchemyError
from waiting import becomes, wait_for

from app import clock, loops
from app.local.sandboxed import BOT_ID
from app.schedule import LoopName
from dbs.session import Database
from workers import leash

MINUTES = float(os.environ.get("CHAOS_MINUTES", "3"))
FAULTS = int(os.environ.get("CHAOS_FAULTS", str(round(MINUTES * 7.5))))
SEED = int(os.environ.get("CHAOS_SEED", "0")) or int(time.time())
RESUMED_WITHIN = 60.0
SETTLED_WITHIN = 300.0
ONCE_AT_A_TIME = {"redis", "postgres", "full"}
READING = [LoopName.TIMELINE, LoopName.MENTIONS, LoopName.GENERATION, LoopName.OWN_POSTS, LoopName.PPO]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(MINUTES * 60 + 1200)]


def committed(db: Database, look: Callable[..., object]) -> object | None:
    """What a look at the database finds; None while it is away, which is one of the faults."""
    try:
        with db.transaction() as session:
            return look(session)
    except SQLAlchemyError:
        return None


def published(chaos: Chaos) -> int:
    return sum(write.published for write in chaos.observer.writes())


def live_through(chaos: Chaos, db: Database, plan: list[Happening], witness: Witness) -> datetime:
    """Let the plan happen. Returns the wall time at which the last fault was over."""
    started, waiting, ends = time.monotonic(), list(plan), list[tuple[float, Happening, End]]()
    while waiting or ends:
        now = time.monotonic() - started
        chaos.tend()
        for due in [item for item in ends if item[0] <= now]:
            ends.remove(due)
            due[2]()
        while waiting and waiting[0].at <= now:
            fault = waiting.pop(0)
            # What is down cannot crash, nor may it come back at the end of another's time: it happens afterwards.
            if until := max((at for at, other, _ in ends if other.part == fault.part in ONCE_AT_A_TIME), default=None):
                waiting.append(replace(fault, at=until + 0.1))
                waiting.sort(key=lambda item: item.at)
                continue
            end = chaos.begin(fault)
            if end is not None:
                ends.append((now + fault.seconds, fault, end))
        committed(db, witness.look)
        time.sleep(0.25)
    chaos.calm()
    return clock.wall_now()


def left_behind(directory: Path) -> list[str]:
    """Processes of the bot's that outlived it: of a service that was killed, its nodes."""
    time.sleep(2 * leash.LOOK_EVERY)
    config = str(directory / "explorer.yaml")
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("EXPLORER_CONFIG") == config:
                found.append(f"process {process.pid} lives on: {' '.join(process.cmdline())}")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # gone meanwhile, or somebody else's
    return found


def survive(directory: Path, model: Path, *, python_path: Path | None = None) -> list[str]:
    """Run a plan to its end; returns what was wrong."""
    plan = draw(SEED, seconds=MINUTES * 60, count=FAULTS, gpu_kills=max(2, round(FAULTS / 10)))
    print(f"seed {SEED}: {FAULTS} faults in {MINUTES:g} minutes", *plan, sep="\n")
    print(dict(Counter(fault.kind for fault in plan)))
    witness = Witness()
    with chaos_stack(directory, model, seed=SEED, python_path=python_path) as chaos:
        db = Database(chaos.env["DATABASE_URL"])
        wait_for(chaos, "first post", 300, lambda: published(chaos) >= 3)
        over = live_through(chaos, db, plan, witness)
        before = published(chaos)
        wait_for(chaos, "post after the last fault", RESUMED_WITHIN, lambda: published(chaos) > before)
        print(f"posted again {(clock.wall_now() - over).total_seconds():.0f} s after the last fault")
        with db.transaction() as session:
            loops.pause(session, BOT_ID, "the end of the chaos", READING)

        settled = becomes(chaos, SETTLED_WITHIN, lambda: committed(db, to_settle) == [])
        unsettled = [] if settled else ["posts wait that nobody sends"]
        with db.transaction() as session:
            witness.look(session)
            wrong = verdict(session, chaos.observer, witness, since=over)
        print(f"{published(chaos)} posts, {len(witness.snapshots)} snapshots, {chaos.bot.restarts} restarts")
        db.close()
    return [*unsettled, *wrong, *left_behind(directory)]


def test_nothing_is_twice_and_nothing_is_lost(tmp_path: Path, packaged_model: Path) -> None:
    assert survive(tmp_path, packaged_model) == []


@pytest.mark.chaos
def test_without_the_claim_before_the_request_it_fails(tmp_path: Path, packaged_model: Path) -> None:
    wrong = survive(tmp_path, packaged_model, python_path=Path(__file__).parent / "without_the_claim")
    print(*wrong, sep="\n")
    assert wrong, "a guard was taken away and nobody noticed"
