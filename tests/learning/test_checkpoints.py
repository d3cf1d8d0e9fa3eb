"""Checkpoint directories and rows: whole or not at all, refused when damaged or foreign, one current at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from sqlalchemy import select

from app import leases
from app.policy import checkpoints, registry
from app.policy.checkpoints import (
    AdapterRef,
    CheckpointError,
    DamagedCheckpointError,
    ForeignCheckpointError,
    Manifest,
    UnsafeCheckpointError,
    verify,
    write,
)
from app.policy.registry import UnknownCheckpointError
from dbs.models import Checkpoint, Event, TrainingRun, TrainingSample
from dbs.states import CheckpointKind, CheckpointState, RunKind, RunState
from tests.learning.world import BASE_HASH, BOT, NOW, World

STATE = {"a.lora_A.weight": torch.arange(6.0).view(2, 3), "a.lora_B.weight": torch.zeros(3, 2)}
ADAPTER = {"peft_type": "LORA", "r": 2, "target_modules": {"v_proj", "q_proj"}}


def manifest(**changes) -> Manifest:
    checkpoint_id = changes.pop("checkpoint_id", None) or uuid.uuid4()
    facts = {
        "checkpoint_id": checkpoint_id,
        "bot_id": BOT,
        "kind": CheckpointKind.PPO,
        "base_model": "tiny",
        "base_hash": BASE_HASH,
        "stack": [AdapterRef(name="policy", checkpoint_id=checkpoint_id)],
        "created_at": NOW,
    }
    return Manifest(**(facts | changes))


def test_what_is_written_can_be_verified_and_read(tmp_path):
    place, written = write(tmp_path, STATE, ADAPTER, manifest(metrics={"objective/kl": 0.3}, samples=12))
    assert place == checkpoints.directory(tmp_path, BOT, written.checkpoint_id)
    assert verify(place, BASE_HASH, BOT) == written
    assert sorted(file.name for file in place.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "manifest.json",
    ]  # fmt: skip
    read = checkpoints.read_adapter(place)
    assert all(torch.equal(read[name], STATE[name]) for name in STATE)
    assert checkpoints.read_adapter_config(place)["target_modules"] == ["q_proj", "v_proj"]
    assert [entry.name for entry in (tmp_path / BOT).iterdir()] == [str(written.checkpoint_id)]


def test_a_checkpoint_is_never_written_twice(tmp_path):
    _, written = write(tmp_path, STATE, ADAPTER, manifest())
    with pytest.raises(CheckpointError, match="exists already"):
        write(tmp_path, STATE, ADAPTER, written)


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    with pytest.raises(CheckpointError, match="NaN"):
        write(tmp_path, {"x": torch.tensor([1.0, float("nan")])}, ADAPTER, manifest())
    assert not (tmp_path / BOT).exists()


def test_a_failure_half_way_leaves_nothing(tmp_path):
    shared = torch.zeros(4)
    with pytest.raises(RuntimeError):
        write(tmp_path, {"a": shared, "b": shared}, ADAPTER, manifest())  # safetensors refuses shared memory
    assert list((tmp_path / BOT).iterdir()) == []


def damage_flip(place: Path) -> None:
    file = place / "adapter_model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))


def damage_manifest(place: Path, **changes) -> None:
    file = place / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("damage", "error", "says"),
    [
        (damage_flip, DamagedCheckpointError, "not the file that was written"),
        (lambda p: (p / "adapter_model.safetensors").unlink(), DamagedCheckpointError, "lacks adapter_model"),
        (lambda p: (p / "manifest.json").unlink(), DamagedCheckpointError, "no readable manifest.json"),
        (lambda p: (p / "manifest.json").write_text("{"), DamagedCheckpointError, "manifest.json"),
        (lambda p: damage_manifest(p, format=99), DamagedCheckpointError, "format"),
        (lambda p: damage_manifest(p, surprise=1), DamagedCheckpointError, "surprise"),
        (lambda p: damage_manifest(p, files={}), DamagedCheckpointError, "lacks"),
        (lambda p: (p / "notes.txt").write_text("x"), DamagedCheckpointError, "notes.txt"),
        (lambda p: (p / "pytorch_model.bin").write_bytes(b"\x80\x04"), UnsafeCheckpointError, "pytorch_model.bin"),
        (lambda p: (p / "extra.PKL").write_bytes(b"\x80\x04"), UnsafeCheckpointError, "extra.PKL"),
        (lambda p: damage_manifest(p, base_hash="cd" * 32), ForeignCheckpointError, "was trained on base"),
        (lambda p: damage_manifest(p, bot_id="other"), ForeignCheckpointError, "belongs to bot other"),
        (lambda p: damage_manifest(p, checkpoint_id=str(uuid.uuid4())), ForeignCheckpointError, "holds checkpoint"),
    ],
)
def test_damaged_and_foreign_checkpoints_are_refused(tmp_path, damage, error, says):
    place, _ = write(tmp_path, STATE, ADAPTER, manifest())
    damage(place)
    with pytest.raises(error, match=says):
        verify(place, BASE_HASH, BOT)


def test_paths_and_links_out_of_the_directory_are_refused(tmp_path):
    place, written = write(tmp_path, STATE, ADAPTER, manifest())
    damage_manifest(place, files={**written.files, "../evil": "0" * 64})
    with pytest.raises(UnsafeCheckpointError, match="plain file name"):
        verify(place)
    place, _ = write(tmp_path, STATE, ADAPTER, manifest())
    kept = place / "adapter_model.safetensors"
    outside = tmp_path / "outside.safetensors"
    outside.write_bytes(kept.read_bytes())
    kept.unlink()
    kept.symlink_to(outside)
    with pytest.raises(DamagedCheckpointError):
        verify(place)
    with pytest.raises(DamagedCheckpointError, match="is not there"):
        verify(tmp_path / "nowhere")


def test_a_writer_killed_at_any_moment_leaves_no_loadable_half(tmp_path):
    """A process that writes checkpoints without end is killed again and again; whatever lies there is whole."""
    program = f"""
import sys; sys.path[:0] = {[str(Path.cwd())]!r}
import torch
from tests.learning.test_checkpoints import *
print("go", flush=True)
while True:
    write({str(tmp_path)!r}, {{f"t{{i}}": torch.randn(400, 400) for i in range(4)}}, ADAPTER, manifest())
"""
    for turn in range(4):
        child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        child.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.15 + 0.05 * turn)
        child.kill()
        child.wait()
        child.stdout.close()
    whole = [entry for entry in (tmp_path / BOT).iterdir() if not entry.name.startswith(".")]
    assert whole
    for place in whole:
        verify(place, BASE_HASH, BOT)


def test_listing_and_verifying_need_no_torch():
    code = "import sys, app.policy.checkpoints, app.policy.registry; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_base_hash_follows_content_and_names(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"one")
    first = checkpoints.base_hash(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert checkpoints.base_hash(tmp_path) == first
    (tmp_path / "model.safetensors").write_bytes(b"two")
    assert checkpoints.base_hash(tmp_path) != first
    with pytest.raises(CheckpointError, match=r"no \.safetensors"):
        checkpoints.base_hash(tmp_path / "..")


@pytest.fixture
def world(database, bot) -> World:
    return World(database)


def add(world: World, root: Path, parent: uuid.UUID, *, age_days: float = 0, **changes) -> uuid.UUID:
    _, written = write(
        root, STATE, ADAPTER, manifest(parent_id=parent, created_at=NOW - timedelta(days=age_days), **changes)
    )
    with world.database.transaction() as session:
        return registry.commit(session, written).checkpoint_id


def current(world: World) -> uuid.UUID:
    with world.database.transaction() as session:
        return registry.current(session, BOT).checkpoint_id


def promote(world: World, root: Path, checkpoint_id: uuid.UUID, lease=None) -> None:
    with world.database.transaction() as session:
        registry.promote(session, root, BOT, checkpoint_id, lease=lease)


def test_base_is_current_and_reference_from_the_start(world):
    with world.database.transaction() as session:
        assert registry.ensure_base(session, BOT, "tiny", BASE_HASH).checkpoint_id == world.base_id
        other = registry.ensure_base(session, BOT, "other", "cd" * 32)
        assert not other.is_current
        assert registry.current(session, BOT).checkpoint_id == world.base_id
        assert registry.reference(session, BOT).checkpoint_id == world.base_id
        assert registry.canary(session, BOT) is None


def test_promotion_and_rollback_move_both_pointers(world, tmp_path):
    sft_id = uuid.uuid4()
    sft = add(
        world, tmp_path, world.base_id, kind=CheckpointKind.SFT, checkpoint_id=sft_id,
        stack=[AdapterRef(name="reference", checkpoint_id=sft_id)],
    )  # fmt: skip
    ppo_id = uuid.uuid4()
    ppo = add(
        world, tmp_path, sft, checkpoint_id=ppo_id,
        stack=[AdapterRef(name="reference", checkpoint_id=sft), AdapterRef(name="policy", checkpoint_id=ppo_id)],
    )  # fmt: skip
    expected = {sft: sft, ppo: sft, world.base_id: world.base_id}
    for checkpoint_id, reference_id in expected.items():
        promote(world, tmp_path, checkpoint_id)
        with world.database.transaction() as session:
            assert registry.current(session, BOT).checkpoint_id == checkpoint_id
            assert registry.reference(session, BOT).checkpoint_id == reference_id
    promote(world, tmp_path, ppo)
    with world.database.transaction() as session:
        row = registry.get(session, BOT, ppo)
        assert row.state == CheckpointState.SERVED
        assert [name for name, _ in registry.stack(tmp_path, row)] == ["reference", "policy"]
        assert registry.rollback(session, tmp_path, BOT).checkpoint_id == sft
    assert world.checkpoint(ppo).state == CheckpointState.REFUSED
    with world.database.transaction() as session:
        assert registry.rollback(session, tmp_path, BOT).checkpoint_id == world.base_id
    with pytest.raises(CheckpointError, match="no parent"), world.database.transaction() as session:
        registry.rollback(session, tmp_path, BOT)
    with world.database.transaction() as session:
        kinds = list(session.scalars(select(Event.kind).where(Event.bot_id == BOT)))
    assert kinds.count("checkpoint.rolled_back") == 2
    assert kinds.count("checkpoint.promoted") == 6


def test_a_stale_lease_promotes_nothing(world, tmp_path):
    candidate = add(world, tmp_path, world.base_id)
    old = leases.take(world.database, BOT, "training", 0.0)
    with leases.hold(world.database, BOT, "training", 60) as fresh:
        assert fresh.fence > old.fence
        with pytest.raises(leases.LeaseLost):
            promote(world, tmp_path, candidate, old)
        assert current(world) == world.base_id
        promote(world, tmp_path, candidate, fresh)
    assert current(world) == candidate


def test_a_damaged_or_unknown_checkpoint_is_not_promoted(world, tmp_path):
    candidate = add(world, tmp_path, world.base_id)
    damage_flip(checkpoints.directory(tmp_path, BOT, candidate))
    with pytest.raises(DamagedCheckpointError):
        promote(world, tmp_path, candidate)
    with pytest.raises(UnknownCheckpointError, match="checkpoints list"):
        promote(world, tmp_path, uuid.uuid4())
    with pytest.raises(UnknownCheckpointError), world.database.transaction() as session:
        registry.get(session, "somebody", candidate)
    assert current(world) == world.base_id


def test_many_promotions_at_once_leave_one_current(world, tmp_path):
    candidates = [add(world, tmp_path, world.base_id) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda one: promote(world, tmp_path, one), candidates * 3))
    with world.database.transaction() as session:
        rows = registry.listing(session, BOT)
    assert sum(row.is_current for row in rows) == 1
    assert sum(row.is_reference for row in rows) == 1
    assert len(rows) == 7


def take_up(world: World, draft_id: uuid.UUID) -> None:
    with world.database.transaction() as session:
        run = TrainingRun(
            run_id=uuid.uuid4(), bot_id=BOT, kind=RunKind.PPO, state=RunState.SUCCEEDED, fence=1, started_at=NOW
        )
        session.add(run)
        session.flush()
        session.add(TrainingSample(run_id=run.run_id, draft_id=draft_id, bot_id=BOT, held_out=False))


def test_pruning_keeps_what_is_needed_and_removes_the_rest(world, tmp_path):
    parent = add(world, tmp_path, world.base_id, age_days=9)
    served = add(world, tmp_path, parent, age_days=8)
    author, consumed, old, newer = (add(world, tmp_path, world.base_id, age_days=d) for d in (7, 6, 5, 4))
    canary = add(world, tmp_path, served, age_days=3)
    promote(world, tmp_path, served)
    with world.database.transaction() as session:
        registry.get(session, BOT, canary).state = CheckpointState.CANARY
    world.post(world.draft(checkpoint_id=author))
    done = world.draft(checkpoint_id=consumed)
    world.post(done)
    take_up(world, done)
    with world.database.transaction() as session:
        assert set(registry.prune(session, tmp_path, BOT, keep=1)) == {consumed, old}
        assert checkpoints.directory(tmp_path, BOT, old).exists()  # nothing goes before the commit
    left = {entry.name for entry in (tmp_path / BOT).iterdir()}
    assert left == {str(one) for one in (parent, served, author, newer, canary)}
    assert world.checkpoint(old).pruned_at is not None
    with pytest.raises(CheckpointError, match="pruned"):
        promote(world, tmp_path, old)
    with world.database.transaction() as session:
        assert registry.prune(session, tmp_path, BOT, keep=0) == [newer]
        assert registry.prune(session, tmp_path, BOT, keep=0) == []


def test_pruning_that_is_rolled_back_removes_nothing(world, tmp_path):
    spare = add(world, tmp_path, world.base_id)

    def prune_and_fail() -> None:
        with world.database.transaction() as session:
            registry.prune(session, tmp_path, BOT, keep=0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        prune_and_fail()
    verify(checkpoints.directory(tmp_path, BOT, spare))


def test_sweeping_removes_what_no_row_names(world, tmp_path):
    kept = add(world, tmp_path, world.base_id)
    orphan, _ = write(tmp_path, STATE, ADAPTER, manifest())
    half = tmp_path / BOT / f".{uuid.uuid4()}.abc"
    half.mkdir()
    with world.database.transaction() as session:
        assert set(registry.sweep(session, tmp_path, BOT)) == {orphan.name, half.name}
        assert registry.sweep(session, tmp_path / "none", BOT) == []
    assert os.listdir(tmp_path / BOT) == [str(kept)]
    with world.database.transaction() as session:
        assert session.get_one(Checkpoint, kept).pruned_at is None
