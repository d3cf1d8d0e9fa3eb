"""What the author writes with: the adapters that the pointers say, and never a damaged or a foreign one."""

from __future__ import annotations

import uuid

import pytest
from author_life import drafts, see
from factories import BOT
from sqlalchemy import select
from tiny_model import save_adapter

from app import clock
from app.policy import checkpoints, registry
from app.policy.checkpoints import AdapterRef, DamagedCheckpointError, ForeignCheckpointError, Manifest
from dbs.models import Checkpoint, DraftSample, Event
from dbs.states import (
    Arm,
    CheckpointKind,
)


def add_checkpoint(database, config, model, tmp_path, *, kind: CheckpointKind, seed: int, below=(), state="candidate"):
    """A real checkpoint: written, verified, committed."""
    adapter = save_adapter(tmp_path / f"adapter{seed}", model.directory, seed=seed)
    name, checkpoint_id = ("reference" if kind is CheckpointKind.SFT else "policy"), uuid.uuid4()
    manifest = Manifest(
        checkpoint_id=checkpoint_id,
        bot_id=BOT,
        kind=kind,
        base_model=str(model.directory),
        base_hash=model.base_hash,
        stack=[*below, AdapterRef(name=name, checkpoint_id=checkpoint_id)],
        created_at=clock.now(),
    )
    tensors, settings = checkpoints.read_adapter(adapter), checkpoints.read_adapter_config(adapter)
    place, manifest = checkpoints.write(config.model.checkpoint_dir, tensors, settings, manifest)
    with database.transaction() as session:
        registry.commit(session, manifest).state = state
    return place, manifest


def point_at(database, checkpoint_id: uuid.UUID, column: str) -> None:
    with database.transaction() as session:
        for row in session.scalars(select(Checkpoint)):
            setattr(row, column, False)
        session.flush()
        setattr(session.get_one(Checkpoint, checkpoint_id), column, True)


def test_the_next_batch_writes_with_what_the_pointers_say(author, database, config, model, tmp_path):
    base = author.ensure_current().current.checkpoint_id
    _, sft = add_checkpoint(database, config, model, tmp_path, kind=CheckpointKind.SFT, seed=1, state="served")
    _, ppo = add_checkpoint(
        database, config, model, tmp_path, kind=CheckpointKind.PPO, seed=2, below=sft.stack, state="served"
    )
    _, canary = add_checkpoint(
        database, config, model, tmp_path, kind=CheckpointKind.PPO, seed=3, below=sft.stack, state="canary"
    )
    point_at(database, ppo.checkpoint_id, "is_current")
    point_at(database, sft.checkpoint_id, "is_reference")
    see(database, 40, summons=True)
    version = author._judge.version if author._judge else None
    author.judge_seen()
    assert author._judge.version != version
    assert sft.checkpoint_id.hex[:8] in author._judge.version
    author.draft_selected()
    rows = drafts(database)
    by_arm = {arm: {row.checkpoint_id for row in rows if row.arm == arm} for arm in Arm}
    assert by_arm == {
        Arm.INCUMBENT: {ppo.checkpoint_id}, Arm.CANARY: {canary.checkpoint_id}, Arm.REFERENCE: {sft.checkpoint_id},
    }  # fmt: skip
    assert {row.arm: row.arm_chance for row in rows} == {Arm.INCUMBENT: 0.375, Arm.CANARY: 0.375, Arm.REFERENCE: 0.25}
    assert author.serving == ppo.checkpoint_id != base
    for row in rows:
        stack = {ppo.checkpoint_id: ppo, canary.checkpoint_id: canary, sft.checkpoint_id: sft}[row.checkpoint_id].stack
        model.use([checkpoints.directory(config.model.checkpoint_dir, BOT, adapter.checkpoint_id) for adapter in stack])
        with database.transaction() as session:
            sample = session.get_one(DraftSample, row.draft_id)
        score = model.score([sample.prompt_token_ids], [sample.output_token_ids], row.temperature)
        assert sample.logprobs == pytest.approx(score[0], abs=1e-3)


def test_a_damaged_checkpoint_is_never_mounted(author, database, config, model, tmp_path):
    place, manifest = add_checkpoint(database, config, model, tmp_path, kind=CheckpointKind.PPO, seed=4, state="served")
    weights = place / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    before = author.serving
    point_at(database, manifest.checkpoint_id, "is_current")
    with pytest.raises(DamagedCheckpointError, match="adapter_model"):
        author.ensure_current()
    assert author.serving == before


def test_a_pointer_to_another_base_is_one_clear_error(author, database):
    current = author.ensure_current().current.checkpoint_id
    with database.transaction() as session:
        session.get_one(Checkpoint, current).base_hash = "0" * 64
    with pytest.raises(ForeignCheckpointError, match=r"model\.hf_repo_id"):
        author.ensure_current()


def test_a_reload_is_recorded_with_what_it_took_and_a_start_is_none(author, database, config, model, tmp_path):
    def reloads() -> list[Event]:
        with database.transaction() as session:
            return list(session.scalars(select(Event).where(Event.kind == "checkpoint.reloaded")))

    base = author.ensure_current().current.checkpoint_id
    author.ensure_current()
    assert reloads() == []
    _, sft = add_checkpoint(database, config, model, tmp_path, kind=CheckpointKind.SFT, seed=1, state="served")
    point_at(database, sft.checkpoint_id, "is_current")
    author.ensure_current()
    author.ensure_current()
    (event,) = reloads()
    assert (event.subject, event.detail["before"]) == (str(sft.checkpoint_id), str(base))
    assert event.detail["seconds"] >= 0
