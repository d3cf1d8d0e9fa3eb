"""How soon a new checkpoint writes: swapped in between two batches, or by a restart of the node.

The generation node as the GPU service starts it, with the real model, Postgres and Redis. One post waits for its
answer. A PPO adapter is committed and promoted in one transaction, as a training run does; from the return of that
commit, one side tells the node (`reload_checkpoint`) and the other kills it and starts it anew. Either is sent the
tick of a turn of generation at once. It has been written when the bot's own event of the batch says so, by that
checkpoint's name; the times are those of the events.
"""

from __future__ import annotations

import os
import signal
import statistics
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.place import BOT, LONGEST_START, Place, bot_place, consuming, until
from benchmarks.row import BenchmarkError, Figure, Measured, Probe, Row, Settings, Side
from benchmarks.rows import ppo
from benchmarks.workload import POSTS

NODE = "generation"
LONGEST_WAIT = 180.0


@dataclass
class _Life:
    """A bot whose generation node runs, an adapter to make checkpoints of, and how many posts it has seen."""

    place: Place
    node: Any
    config: Any
    adapter: Path
    seen: int = 0

    def restart(self) -> None:
        """Kill the node, and start it as soon as it is gone."""
        os.killpg(self.node.pids()[NODE], signal.SIGKILL)
        until(lambda: NODE not in self.node.pids(), LONGEST_WAIT, "the end of the node", 0.001)
        self.node.start()

    def post(self) -> None:
        """One more post that is worth an answer and has none, once no turn is left that would answer it already."""
        from app import clock
        from dbs.models import TimelinePost

        until(self._rests, LONGEST_WAIT, "the end of a turn of generation", 0.02)
        self.seen += 1
        x_post_id, now = str(1000 + self.seen), clock.now()
        text = POSTS[self.seen % len(POSTS)].strip()
        with self.place.db.transaction() as session:
            session.add(TimelinePost(
                bot_id=BOT, x_post_id=x_post_id, author_id=x_post_id, text=text, conversation_id=x_post_id,
                created_at=now, first_seen_at=now, source="mention", summons=True, state="selected",
            ))  # fmt: skip

    def _rests(self) -> bool:
        from sqlalchemy import select

        from dbs.models import Loop

        ended = select(Loop.finished_at >= Loop.started_at).where(Loop.bot_id == BOT, Loop.loop == NODE)
        with self.place.db.transaction() as session:
            return bool(session.scalar(ended))

    def tick(self) -> None:
        from app.celery import app

        app.send_task("app.tasks.generation")

    def batch_of(self, checkpoint: uuid.UUID) -> Any:
        """The event of the first batch that a checkpoint wrote, once there is one."""
        until(lambda: self.event("batch.written", checkpoint), LONGEST_WAIT, f"a batch by {checkpoint}", 0.02)
        return self.event("batch.written", checkpoint)

    def event(self, kind: str, checkpoint: uuid.UUID) -> Any:
        from sqlalchemy import select

        from dbs.models import Event

        found = select(Event).where(Event.kind == kind, Event.subject == str(checkpoint)).order_by(Event.at).limit(1)
        with self.place.db.transaction() as session:
            return session.scalars(found).one_or_none()

    def promote(self) -> tuple[uuid.UUID, datetime]:
        """Write a checkpoint, commit and promote it; its id, and the moment at which that was committed."""
        from app import clock
        from app.policy import checkpoints, registry
        from app.policy.checkpoints import AdapterRef, Manifest
        from dbs.states import CheckpointKind

        root, checkpoint_id = self.config.model.checkpoint_dir, uuid.uuid4()
        with self.place.db.transaction() as session:
            before = registry.current(session, BOT)
            if before is None:
                raise BenchmarkError("the bot has no checkpoint to learn from")
            manifest = Manifest(
                checkpoint_id=checkpoint_id, bot_id=BOT, kind=CheckpointKind.PPO, base_model=before.base_model,
                base_hash=before.base_hash, parent_id=before.checkpoint_id, created_at=clock.now(),
                stack=[AdapterRef(name="policy", checkpoint_id=checkpoint_id)],
            )  # fmt: skip
        tensors, settings = checkpoints.read_adapter(self.adapter), checkpoints.read_adapter_config(self.adapter)
        _, manifest = checkpoints.write(root, tensors, settings, manifest)
        with self.place.db.transaction() as session:
            registry.commit(session, manifest)
            registry.promote(session, root, BOT, checkpoint_id)
        return checkpoint_id, clock.wall_now()


def swapped(settings: Settings, probe: Probe) -> Measured:
    """The node is told, and swaps adapters between two batches."""
    from app.reloading import announce

    def tell(_life: _Life) -> None:
        if not announce():
            raise BenchmarkError("the broker did not take reload_checkpoint")

    probe.imported()
    with _life(settings) as life:
        found, stalls = _until_written(life, int(settings["reloads"]), tell)
    return found | {"stall": statistics.median(stalls), "longest_stall": max(stalls)}


def restarted(settings: Settings, probe: Probe) -> Measured:
    """The node is killed, which is the quickest end, and started at once."""
    probe.imported()
    with _life(settings) as life:
        found, _ = _until_written(life, int(settings["restarts"]), _Life.restart)
    return found


def _until_written(life: _Life, times: int, take_up: Callable[[_Life], None]) -> tuple[Measured, list[float]]:
    """Medians from commit to the first batch's end and its beginning; and the seconds of each swap."""
    written, begun, stalls = [], [], []
    for _ in range(times):
        life.post()
        checkpoint, committed = life.promote()
        take_up(life)
        life.tick()
        batch = life.batch_of(checkpoint)
        seconds = (batch.at - committed) / timedelta(seconds=1)
        written.append(seconds)
        begun.append(seconds - batch.detail["seconds"])
        swap = life.event("checkpoint.reloaded", checkpoint)
        stalls += [swap.detail["seconds"]] if swap else []
    return {"written": statistics.median(written), "begun": statistics.median(begun)}, stalls


@contextmanager
def _life(settings: Settings) -> Iterator[_Life]:
    """A bot whose node has written a batch with an adapter, as one that has learnt before."""
    from app.loading import load_config
    from app.local.servers import free_port
    from workers.gpu import services

    model = {"hf_repo_id": str(Path(str(settings["model"])).resolve()), "device": str(settings["device"])}
    with tempfile.TemporaryDirectory() as scratch:
        shape = {"samples": 1, "micro_batch": 1, "epochs": 1}
        adapter = ppo.moved_adapter(ppo.config_of({**settings, **shape}), Path(scratch))
        config = {
            "model": model | {"checkpoint_dir": str(Path(scratch) / "checkpoints")},
            "ppo": {"reference_share": 0.0}, "loop": {"max_drafts_per_target": 1},
        }  # fmt: skip
        [node] = [service for service in services() if service.name == NODE]
        with bot_place(free_port(), config, {}) as place, place.running([node]) as supervisor:
            until(lambda: consuming() == 1, LONGEST_START, "the generation node")
            life = _Life(place, supervisor, load_config(), adapter)
            _first_words(life)
            yield life


def _first_words(life: _Life) -> None:
    """A batch of the base model, then one of an adapter: the first of these also puts PEFT's layers in."""
    from sqlalchemy import select

    from dbs.models import Checkpoint

    life.tick()  # loads the model, which gives the bot its first checkpoint
    base = select(Checkpoint.checkpoint_id).where(Checkpoint.is_current)

    def current() -> Any:
        with life.place.db.transaction() as session:
            return session.scalars(base).one_or_none()

    until(current, LONGEST_WAIT, "the base model's checkpoint")
    life.post()
    life.tick()
    life.batch_of(current())
    life.post()
    first, _ = life.promote()
    life.tick()
    life.batch_of(first)


ROW = Row(
    name="reload",
    what=(
        "From the commit of a new checkpoint to the first batch that it has written, of one reply; and how long its "
        "swap keeps the author from the next batch."
    ),
    ours=Side(
        label="told by `reload_checkpoint`",
        measure=swapped,
        settings=(
            "The stall is what the author waits for the pointer to be read, the checkpoint's files to be verified and",
            "the adapters to be swapped.",
        ),
    ),
    baseline=Side(
        label="a restart of the generation node",
        measure=restarted,
        settings=("Killed, which is the quickest way to end it, and started at once.",),
    ),
    figures=(
        Figure("until its first batch is written", "written", "s", "baseline / ours", "at least", 20.0),
        Figure("until its first batch begins", "begun", "s", "baseline / ours", "at least", None),
        Figure("stall between batches, the longest", "longest_stall", "s", "ours alone", "at most", 0.2),
        Figure("stall between batches, the median", "stall", "s", "ours alone", "at most", None),
    ),
    settings={"model": ppo.MODEL, "device": "cpu", "lora_rank": 16, "reloads": 6, "restarts": 2},
    quick={"reloads": 2, "restarts": 1},
    packages=("torch", "transformers", "peft", "celery"),
    prepare=ppo.fetch_model,
    bounds=(
        "The batch itself: one reply takes seconds on a processor, whoever starts it, and both sides wait for its end. "
        "Until it begins is the swap alone. Shorter batches, or a GPU, would lift it."
    ),
)
