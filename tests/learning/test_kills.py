"""The training process killed at twenty random moments, spread over the whole of a run."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import update

from app import clock
from app.config import VibeBotConfig
from app.learning import runs
from app.learning.trainer import run_ppo
from app.policy import registry
from app.policy.checkpoints import verify
from dbs.models import Lease, TrainingRun
from dbs.states import RunState
from tests.learning.life import learn, live, run_rows
from tests.learning.world import BOT, World

KILLS = 20
UNDER_WAY = ("loading or scoring", "training or judged")
# A server that has torch and the rest imported, and forks: a run then takes the time that it works, and no more.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [
        "tests.learning.life",
        "app.learning.trainable",
        "app.learning.examination",
        # What those leave to be loaded by who first needs it.
        "statsmodels.api",
        "torch.utils.tensorboard",
        "transformers.models.llama.modeling_llama",
    ]
)


def take_turn(settings: VibeBotConfig, database_url: str, kill_after: float | None = None) -> float | None:
    """Run a turn in a process of its own, killed after so many seconds; how long it took, if it came to its end."""
    process = PROCESSES.Process(target=learn, args=(settings.model_dump(mode="json"), database_url))
    process.start()
    begun = time.monotonic()
    process.join(kill_after)
    seconds = time.monotonic() - begun
    process.kill()
    process.join()
    return seconds if process.exitcode == 0 else None


def where(begun: list[TrainingRun]) -> str:
    """What a killed process had come to, by the run that it began, if it had."""
    if not begun:
        return "not begun"
    if begun[0].state != RunState.RUNNING:
        return "over"
    return "training or judged" if begun[0].progress else "loading or scoring"


def assert_nothing_is_broken(world: World, settings: VibeBotConfig) -> None:
    """One checkpoint is current, and whatever could be loaded is whole."""
    root = Path(settings.model.checkpoint_dir)
    with world.database.transaction() as session:
        rows = registry.listing(session, BOT)
    assert sum(row.is_current for row in rows) == 1
    for row in rows:
        for _, path in registry.stack(root, row):
            verify(path, world.base_hash, BOT)
    if (root / BOT).is_dir():
        for entry in (root / BOT).iterdir():
            if not entry.name.startswith("."):  # half written; nothing loads it, and the next turn sweeps it away
                verify(entry, world.base_hash, BOT)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_twenty_random_moments_nothing_is_broken_and_the_next_run_works(world, settings, database_url):
    seed = int(os.environ.get("EXPLORER_TEST_SEED", random.randrange(2**32)))
    print(f"EXPLORER_TEST_SEED={seed} repeats these moments")
    draw = random.Random(seed)
    live(world, settings, 90, seed=0)
    take_turn(settings, database_url, 0.0)  # starts the server, which is no part of a run
    take_turn(settings, database_url)
    live(world, settings, 90, seed=1)
    whole = take_turn(settings, database_url)
    assert whole is not None
    assert [row.state for row in run_rows(world)] == [RunState.SUCCEEDED] * 2
    moments = [(i + draw.random()) / KILLS for i in range(KILLS)]
    draw.shuffle(moments)
    found: Counter[str] = Counter()
    idle = True  # the last run came to its end: there must be something for another one
    for i, moment in enumerate(moments):
        if idle:
            live(world, settings, 90, seed=2 + i)
        before = len(run_rows(world))
        whole = take_turn(settings, database_url, moment * whole) or whole  # a shared machine is slow now and then
        with world.database.transaction() as session:  # as if the lease's seconds had passed
            session.execute(update(Lease).values(expires_at=clock.wall_now()))
        begun = run_rows(world)[before:]
        assert not [run.reason for run in begun if run.state == RunState.FAILED]  # by itself, before it was killed
        found[where(begun)] += 1
        assert_nothing_is_broken(world, settings)
        runs.bury_abandoned(world.database, BOT)
        assert RunState.RUNNING not in {run.state for run in run_rows(world)}
        idle = bool(begun) and begun[0].state != RunState.RUNNING
    print(f"a run takes {whole:.1f} s; the kills found it {dict(found)}")
    assert sum(found[what] for what in UNDER_WAY) >= KILLS / 3
    live(world, settings, 90, seed=99)
    outcome = run_ppo(settings, world.database)
    assert outcome.state == RunState.SUCCEEDED, outcome
    assert_nothing_is_broken(world, settings)
    with world.database.transaction() as session:
        wanted = {str(row.checkpoint_id) for row in registry.listing(session, BOT) if row.path and not row.pruned_at}
    assert {entry.name for entry in (Path(settings.model.checkpoint_dir) / BOT).iterdir()} == wanted
