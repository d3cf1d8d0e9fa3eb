"""Whole turns of learning on real rows and a tiny model: rewards, run, gate, pointer; and what a failure leaves."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sqlalchemy import func, select, update

from app import clock, leases
from app.config import VibeBotConfig
from app.learning import dataset, runs
from app.learning.control import shuffled
from app.learning.dataset import Dataset, gather, is_held_out
from app.learning.examination import Sides, examine, look_at_weights
from app.learning.gate import PROFILES
from app.learning.trainer import run_ppo
from app.policy import checkpoints, registry
from app.policy.checkpoints import ADAPTER_WEIGHTS, AdapterRef, Manifest, verify
from app.policy.model import LanguageModel
from dbs.models import Event, Forgotten, GateVerdict, Lease, Reward, TrainingSample
from dbs.states import Arm, CheckpointKind, CheckpointState, RunKind, RunState
from tests.learning.life import current, live, run_rows, with_ppo
from tests.learning.world import BOT


def test_a_turn_without_enough_is_cheap_and_leaves_no_run(world, settings, database_url):
    live(world, settings, 20)
    started = time.monotonic()
    outcome = run_ppo(settings, world.database)
    assert time.monotonic() - started < 5
    assert outcome.state == "skipped"
    assert "32 are needed" in outcome.reason
    assert outcome.rewarded == 20
    assert run_rows(world) == []
    program = (
        "import sys; from app.loading import parse_config; from dbs.session import Database\n"
        "from app.learning.trainer import run_ppo\n"
        f"outcome = run_ppo(parse_config({settings.model_dump(mode='json')!r}), Database({database_url!r}))\n"
        "assert outcome.state == 'skipped', outcome\n"
        "sys.exit(3 if {'torch', 'transformers'} & set(sys.modules) else 0)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_several_turns_promote_step_by_step_and_never_train_on_the_gates_posts(world, settings):
    chain = [world.base_id]
    for turn in range(2):
        live(world, settings, 90, seed=turn)
        steps = []
        outcome = run_ppo(settings, world.database, lambda step, of, metrics: steps.append((step, of, metrics)))  # noqa: B023
        assert outcome.state == RunState.SUCCEEDED, outcome
        assert outcome.promoted, outcome.reason
        assert steps
        assert current(world) == outcome.checkpoint_id
        chain.append(outcome.checkpoint_id)
        row = world.checkpoint(outcome.checkpoint_id)
        assert (row.kind, row.state, row.parent_id) == (CheckpointKind.PPO, CheckpointState.SERVED, chain[-2])
        place = checkpoints.directory(settings.model.checkpoint_dir, BOT, row.checkpoint_id)
        manifest = verify(place, world.base_hash, BOT)
        assert manifest.model_dump(mode="json") == row.manifest
        assert manifest.samples == outcome.samples
        LanguageModel(settings.model).use([place])
        logs = Path(settings.data_dir) / "runs" / BOT / str(outcome.run_id)
        lines = [json.loads(line) for line in (logs / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == [step for step, _, _ in steps]
        assert {"objective/kl", "ppo/clip_fraction", "ppo/ess"} <= lines[-1].keys()
        assert list(logs.glob("events.out.tfevents.*"))
        assert run_ppo(settings, world.database).state == "skipped"  # nothing fresh is left
    rows = run_rows(world)
    assert [row.state for row in rows] == [RunState.SUCCEEDED] * 2
    assert rows[-1].progress["step"] >= 1
    assert rows[-1].metrics["steps"] >= 1
    with world.database.transaction() as session:
        verdicts = session.scalars(select(GateVerdict)).all()
        samples = session.scalars(select(TrainingSample)).all()
    assert all(verdict.passed and verdict.profile == "demo" for verdict in verdicts)
    assert verdicts[0].samples[0].keys() >= {"incumbent", "candidate"}
    assert all(sample.held_out == is_held_out(sample.draft_id) for sample in samples)
    assert {sample.held_out for sample in samples} == {True, False}
    trained = [sample.draft_id for sample in samples if not sample.held_out]
    assert len(trained) == len(set(trained))  # what a served checkpoint learnt from is never used again


def test_an_open_gate_passes_what_is_finite_and_says_so(world, settings):
    live(world, settings, 90)
    free = with_ppo(settings, gate="open")
    outcome = run_ppo(free, world.database)
    assert outcome.promoted
    with world.database.transaction() as session:
        verdict = session.scalars(select(GateVerdict)).one()
        samples = session.scalars(select(TrainingSample)).all()
    assert (verdict.profile, verdict.passed, verdict.samples) == ("open", True, [])
    assert "nothing was estimated" in verdict.numbers["meaning"]
    assert samples
    assert not any(is_held_out(sample.draft_id) for sample in samples)  # they stay the gate's, whichever gate it is


def test_shuffled_rewards_are_the_same_ones_on_other_drafts(evidence):
    data = evidence.training
    mixed = shuffled(data, seed=1)
    rewards = [logged.sample.reward for logged in data]
    found = [logged.sample.reward for logged in mixed]
    assert sorted(found) == sorted(rewards)
    assert sum(a != b for a, b in zip(found, rewards, strict=True)) > len(data) / 2
    assert [logged.sample.draft_id for logged in mixed] == [logged.sample.draft_id for logged in data]
    assert [logged.outcome for logged in mixed] == [logged.outcome for logged in data]
    assert shuffled(data, seed=1) == mixed
    assert [logged.sample.reward for logged in shuffled(data, seed=2)] != found
    assert [logged.sample.reward for logged in data] == rewards


def test_the_control_arm_trains_on_shuffled_rewards(world, settings, monkeypatch):
    live(world, settings, 90)
    seen = []

    def stop(model, samples, *rest, **named):
        seen.append({sample.draft_id: sample.reward for sample in samples})
        raise KeyboardInterrupt

    monkeypatch.setattr("app.learning.ppo.train", stop)
    for relabel in (None, shuffled):
        with pytest.raises(KeyboardInterrupt):
            run_ppo(with_ppo(settings, gate="open"), world.database, relabel=relabel)
    plain, mixed = seen
    with world.database.transaction() as session:
        stored = dict(session.execute(select(Reward.draft_id, Reward.reward)).all())
    assert plain == {draft_id: stored[draft_id] for draft_id in plain}
    assert mixed.keys() == plain.keys()
    assert mixed != plain
    assert sorted(mixed.values()) == sorted(plain.values())


def test_posts_of_an_older_checkpoint_are_rescored_and_learnt_from(world, settings):
    live(world, settings, 90, seed=3)
    late = live(world, settings, 60, seed=4)
    with world.database.transaction() as session:  # measured only after the first run
        stored = list(session.scalars(select(dataset.Draft.draft_id).where(dataset.Draft.draft_id.in_(late))))
        session.execute(update(dataset.Draft).where(dataset.Draft.draft_id.in_(stored)).values(edited=True))
    assert run_ppo(settings, world.database).promoted
    with world.database.transaction() as session:
        session.execute(update(dataset.Draft).where(dataset.Draft.draft_id.in_(stored)).values(edited=False))
    outcome = run_ppo(settings, world.database)
    assert outcome.state == RunState.SUCCEEDED
    assert outcome.metrics["data/mismatched"] == 0
    assert outcome.metrics["data/rescore_gap"] < 0.01
    # All of them are the base's, and the policy has moved on: weights are no longer 1.
    assert outcome.metrics["ppo/weight_mean"] != pytest.approx(1.0, abs=1e-3)


def test_a_run_that_raises_is_failed_with_the_reason(world, settings):
    live(world, settings, 90)
    with world.database.transaction() as session:
        parent = registry.current(session, BOT)
        place = Path(settings.model.checkpoint_dir) / BOT
    place.parent.mkdir(parents=True)
    place.write_text("a file where the directory should be")
    with pytest.raises(OSError, match=BOT):
        run_ppo(settings, world.database)
    (failed,) = run_rows(world)
    assert failed.state == RunState.FAILED
    assert "Error" in failed.reason
    assert failed.finished_at is not None
    assert current(world) == parent.checkpoint_id
    with world.database.transaction() as session:
        assert session.scalars(select(func.count()).select_from(TrainingSample)).one() == 0
        assert "training.failed" in set(session.scalars(select(Event.kind)))
    place.unlink()
    assert run_ppo(settings, world.database).promoted


def test_running_out_of_memory_is_a_reason_too(world, settings):
    live(world, settings, 90)

    def greedy(step: int, steps: int, metrics: dict) -> None:
        torch.empty(2**50)  # more than any machine has, asked of torch's own allocator

    with pytest.raises(RuntimeError):
        run_ppo(settings, world.database, greedy)
    (row,) = run_rows(world)
    assert row.state == RunState.FAILED
    assert "memory" in row.reason
    assert current(world) == world.base_id


def test_one_at_a_time(world, settings):
    with leases.hold(world.database, BOT, leases.TRAINING_LEASE, 60):
        outcome = run_ppo(settings, world.database)
    assert outcome.state == "skipped"
    assert "held by another process" in outcome.reason


def test_a_run_whose_lease_was_taken_commits_nothing(world, settings):
    live(world, settings, 90)
    taken = []

    def steal(step: int, steps: int, metrics: dict) -> None:
        if not taken:
            with world.database.transaction() as session:
                session.execute(update(Lease).values(expires_at=clock.wall_now() - timedelta(seconds=1)))
            taken.append(leases.take(world.database, BOT, leases.TRAINING_LEASE, 60))

    with pytest.raises(leases.LeaseLost):
        run_ppo(settings, world.database, steal)
    assert current(world) == world.base_id
    assert [row.state for row in run_rows(world)] == [RunState.FAILED]


@pytest.mark.parametrize("meanwhile", [False, True])
def test_a_verdict_holds_no_words_of_whom_was_forgotten_meanwhile(world, settings, meanwhile):
    live(world, settings, 90)

    def forget(step: int, *_: object) -> None:
        if meanwhile and step == 1:
            with world.database.transaction() as session:
                session.add(Forgotten(bot_id=BOT, subject="7", reason="by hand", at=clock.wall_now()))

    run_ppo(settings, world.database, forget)
    with world.database.transaction() as session:
        assert bool(session.scalars(select(GateVerdict)).one().samples) is not meanwhile


def test_a_pointer_moved_by_hand_wins(world, settings, tmp_path):
    live(world, settings, 90)
    other = uuid.uuid4()
    state = {"base_model.model.lm_head.lora_A.weight": torch.zeros(2, 2)}
    manifest = Manifest(
        checkpoint_id=other, bot_id=BOT, kind=CheckpointKind.PPO, base_model="tiny", base_hash=world.base_hash,
        stack=[AdapterRef(name="policy", checkpoint_id=other)], parent_id=world.base_id, created_at=clock.now(),
    )  # fmt: skip
    moved = []

    def by_hand(step: int, steps: int, metrics: dict) -> None:
        if not moved:
            _, written = checkpoints.write(settings.model.checkpoint_dir, state, {"peft_type": "LORA"}, manifest)
            with world.database.transaction() as session:
                registry.commit(session, written)
                moved.append(registry.promote(session, settings.model.checkpoint_dir, BOT, other))

    outcome = run_ppo(settings, world.database, by_hand)
    assert not outcome.promoted
    assert "by hand" in outcome.reason
    assert current(world) == other
    assert world.checkpoint(outcome.checkpoint_id).state == CheckpointState.REFUSED


def test_heartbeat_keeps_the_lease_and_notices_its_loss(world):
    with leases.hold(world.database, BOT, "beat", 0.4) as lease, runs.Heartbeat(lease, 0.1) as heart:
        time.sleep(1.0)
        heart.check()
        with pytest.raises(leases.LeaseTaken):
            leases.take(world.database, BOT, "beat", 1)
        with world.database.transaction() as session:
            session.execute(update(Lease).where(Lease.name == "beat").values(fence=Lease.fence + 1))
        time.sleep(0.3)
        with pytest.raises(leases.LeaseLost):
            heart.check()


def test_dead_runs_are_buried_by_fence(world):
    old = leases.take(world.database, BOT, leases.TRAINING_LEASE, 0.0)
    dead = runs.begin(world.database, old, RunKind.PPO, world.base_id)
    with leases.hold(world.database, BOT, leases.TRAINING_LEASE, 60) as lease, world.database.transaction() as session:
        assert runs.bury_dead(session, lease) == [dead]
        assert runs.bury_dead(session, lease) == []
        runs.finish(session, dead, RunState.SUCCEEDED)  # a ghost that wakes up changes nothing
    assert run_rows(world)[0].state == RunState.FAILED


def test_an_abandoned_run_is_buried_without_another_and_its_ghost_commits_nothing(world):
    assert runs.bury_abandoned(world.database, BOT) == []
    lease = leases.take(world.database, BOT, leases.TRAINING_LEASE, 60)
    run_id = runs.begin(world.database, lease, RunKind.PPO, world.base_id)
    assert runs.bury_abandoned(world.database, BOT) == []  # it may still be at work
    assert run_rows(world)[0].state == RunState.RUNNING
    with world.database.transaction() as session:
        session.execute(update(Lease).values(expires_at=clock.wall_now()))
    assert runs.bury_abandoned(world.database, BOT) == [run_id]
    assert run_rows(world)[0].state == RunState.FAILED
    with pytest.raises(leases.LeaseLost), world.database.transaction() as session:
        lease.check(session)
    leases.release(leases.take(world.database, BOT, leases.TRAINING_LEASE, 60))  # the next run need not wait
    assert runs.bury_abandoned(world.database, BOT) == []


def test_canary_is_tried_and_then_decided(world, settings):
    careful = with_ppo(settings, gate="production")
    live(world, careful, 680, seed=7)
    outcome = run_ppo(careful, world.database)
    assert world.checkpoint(outcome.checkpoint_id).state == CheckpointState.CANARY, outcome.reason
    assert not outcome.promoted
    assert current(world) == world.base_id
    again = run_ppo(careful, world.database)
    assert again.state == "skipped"
    assert "canary" in again.reason
    with world.database.transaction() as session:  # it began a fortnight ago, and nothing spoke against it
        session.execute(update(GateVerdict).values(judged_at=clock.now() - timedelta(days=14)))
    decided = run_ppo(careful, world.database)
    assert decided.promoted
    assert current(world) == outcome.checkpoint_id
    with world.database.transaction() as session:
        assert "canary.ended" in set(session.scalars(select(Event.kind)))


def test_a_canary_that_earns_less_is_withdrawn(world, settings):
    careful = with_ppo(settings, gate="production")
    live(world, careful, 680, seed=7)
    outcome = run_ppo(careful, world.database)
    assert world.checkpoint(outcome.checkpoint_id).state == CheckpointState.CANARY, outcome.reason
    with world.database.transaction() as session:
        session.execute(update(GateVerdict).values(judged_at=clock.now() - timedelta(days=3)))
    draw = np.random.default_rng(0)
    for i in range(160):
        arm = Arm.CANARY if i % 2 else Arm.INCUMBENT
        facts = {"arm": arm, "created_at": clock.now() - timedelta(hours=30 + i % 7)}
        world.post(world.draft(**facts), likes=int(draw.poisson(0.3 if i % 2 else 6.0)))
    run_ppo(careful, world.database)
    assert world.checkpoint(outcome.checkpoint_id).state == CheckpointState.REFUSED
    assert current(world) == world.base_id


@pytest.fixture
def evidence(world, settings) -> Dataset:
    live(world, settings, 120, seed=9)
    run_ppo(
        settings.model_copy(update={"ppo": settings.ppo.model_copy(update={"min_samples": 10_000})}), world.database
    )
    with world.database.transaction() as session:
        assert session.scalars(select(func.count()).select_from(Reward)).one() == 120
        return gather(session, settings.model.checkpoint_dir, settings, PROFILES["demo"])


def sabotage(settings: VibeBotConfig, tiny_hash: str, size: float, **changes) -> list[tuple[str, Path]]:
    """A candidate whose adapter is noise of a given size."""
    from app.learning.trainable import Trainable

    trainable = Trainable(settings, [], seed=1)
    state, adapter = trainable.adapter()
    generator = torch.Generator().manual_seed(1)
    state = {name: size * torch.randn(tensor.shape, generator=generator) for name, tensor in state.items()}
    checkpoint_id = uuid.uuid4()
    facts = {
        "checkpoint_id": checkpoint_id, "bot_id": BOT, "kind": CheckpointKind.PPO, "base_model": "tiny",
        "base_hash": tiny_hash, "stack": [AdapterRef(name="policy", checkpoint_id=checkpoint_id)],
        "created_at": clock.now(),
    }  # fmt: skip
    place, _ = checkpoints.write(settings.model.checkpoint_dir, state, adapter, Manifest(**(facts | changes)))
    return [("policy", place)]


def verdict_on(candidate, settings, data):
    sides = Sides(candidate, incumbent=[], reference=[])
    return examine(LanguageModel(settings.model), sides, data, PROFILES["demo"], config=settings, recent=[])


def test_the_gate_passes_a_twin_and_refuses_the_sabotaged(world, settings, evidence):
    assert verdict_on(sabotage(settings, world.base_hash, 1e-4), settings, evidence).passed

    broken = verdict_on(sabotage(settings, world.base_hash, 3.0), settings, evidence)
    assert not broken.passed
    assert any("held-out posts count for" in reason for reason in broken.reasons)

    foreign = sabotage(settings, "ef" * 32, 1e-4)
    assert "was trained on base" in verdict_on(foreign, settings, evidence).reasons[0]

    flipped = sabotage(settings, world.base_hash, 1e-4)
    file = flipped[0][1] / ADAPTER_WEIGHTS
    file.write_bytes(file.read_bytes()[:-4])
    assert "not the file that was written" in verdict_on(flipped, settings, evidence).reasons[0]


def test_the_gate_refuses_weights_that_are_not_numbers(world, settings, evidence):
    candidate = sabotage(settings, world.base_hash, 1e-4)
    place = candidate[0][1]
    state = checkpoints.read_adapter(place)
    save_file({name: torch.full_like(tensor, float("nan")) for name, tensor in state.items()}, place / ADAPTER_WEIGHTS)
    manifest = json.loads((place / "manifest.json").read_text())
    manifest["files"][ADAPTER_WEIGHTS] = checkpoints._sha256(place / ADAPTER_WEIGHTS)
    (place / "manifest.json").write_text(json.dumps(manifest))
    assert "not finite" in verdict_on(candidate, settings, evidence).reasons[0]
    opened = look_at_weights(candidate, PROFILES["open"], base_hash=world.base_hash, config=settings)
    assert not opened.passed
    assert "lora_A" in opened.reasons[0]
    assert "not finite" in opened.reasons[0]


def test_an_open_gate_still_refuses_what_is_not_of_this_base(world, settings):
    foreign = sabotage(settings, "ef" * 32, 1e-4)
    opened = look_at_weights(foreign, PROFILES["open"], base_hash=world.base_hash, config=settings)
    assert not opened.passed
    assert "was trained on base" in opened.reasons[0]
