"""Learning from choices: DPO by TRL on our adapters, the same gate, lease and pointer as PPO."""

from __future__ import annotations

import random
import subprocess
import sys
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from peft import get_peft_model_state_dict
from sqlalchemy import select, update

from app import clock, leases
from app.config import DPOConfig, VibeBotConfig
from app.learning import dpo
from app.learning.dpo import Pair
from app.learning.forward import MicroBatch
from app.learning.preferences import choices, run_dpo
from app.learning.samples import POLICY, REFERENCE
from app.learning.scoring import acting_as, policy_stack, reference_stack, score
from app.learning.trainable import Trainable
from app.learning.trainer import run_ppo
from app.policy import checkpoints, registry
from app.policy.checkpoints import AdapterRef, Manifest, verify
from app.policy.model import LanguageModel
from app.policy.prompts import PromptBuilder
from app.readiness import is_worth_a_dpo_run
from dbs.models import GateVerdict, Lease, Preference
from dbs.states import CheckpointKind, CheckpointState, DraftState, RunKind, RunState
from tests.learning.conftest import sample, shake
from tests.learning.life import current, live, questions, run_rows, worth
from tests.learning.world import BOT, World

PAIRS = 48


@pytest.fixture
def settings(settings: VibeBotConfig) -> VibeBotConfig:
    return with_dpo(settings, min_pairs=32, learning_rate=2e-3, batch_size=8)


def with_dpo(settings: VibeBotConfig, **changes: object) -> VibeBotConfig:
    return settings.model_copy(update={"dpo": DPOConfig.model_validate(settings.dpo.model_dump() | changes)})


def write_twice(settings: VibeBotConfig, n: int, seed: int = 0) -> list[tuple[list[int], list[int], list[int]]]:
    """Prompts with two outputs of the base each, the one that the community would like better first."""
    model = LanguageModel(settings.model)
    prompts = questions(n, random.Random(seed))
    one, other = (model.sample(prompts, temperature=0.7, max_new_tokens=12, seed=seed + turn) for turn in (1000, 2000))
    return [
        (prompt, *sorted((list(a.token_ids), list(b.token_ids)), key=worth, reverse=True))
        for prompt, a, b in zip(prompts, one, other, strict=True)
    ]  # fmt: skip


def choose(world: World, settings: VibeBotConfig, n: int = PAIRS, *, seed: int = 0, edited: str | None = None) -> None:
    """A person has chosen between two drafts for each of n posts."""
    for prompt, better, worse in write_twice(settings, n, seed):
        ids = [
            world.draft(
                state=state, reject_rule=rule,
                sample={"prompt_token_ids": prompt, "output_token_ids": output, "logprobs": [-1.0] * len(output)},
            )
            for state, rule, output in (
                (DraftState.USED, None, better), (DraftState.REJECTED, "not_chosen", worse),
            )
        ]  # fmt: skip
        with world.database.transaction() as session:
            session.add(Preference(
                bot_id=BOT, target_post_id=uuid.uuid4().hex, chosen_draft_id=ids[0], rejected_draft_id=ids[1],
                edited_text=edited, chosen_by="console", chosen_at=clock.wall_now(),
            ))  # fmt: skip


def preferences(world: World) -> list[Preference]:
    with world.database.transaction() as session:
        return list(session.scalars(select(Preference)))


def test_choices_move_the_policy_through_the_gate(world, settings):
    live(world, settings, 90)  # the gate's posts
    choose(world, settings)
    steps = []
    outcome = run_dpo(settings, world.database, lambda *step: steps.append(step))
    assert outcome.state == RunState.SUCCEEDED, outcome
    assert outcome.promoted, outcome.reason
    assert outcome.samples == PAIRS
    # The base was the policy and the reference: nothing was preferred before.
    assert outcome.metrics["dpo/margin_before"] == pytest.approx(0, abs=1e-4)
    assert outcome.metrics["dpo/margin_after"] > 0.5
    assert outcome.metrics["dpo/accuracy_after"] > 0.8
    assert [step for step, _, _ in steps] == list(range(1, 2 * PAIRS // 8 + 1))
    assert steps[-1][2]["dpo/rewards/margins"] > 0

    row = world.checkpoint(outcome.checkpoint_id)
    assert (row.kind, row.state, row.parent_id) == (CheckpointKind.DPO, CheckpointState.SERVED, world.base_id)
    place = checkpoints.directory(settings.model.checkpoint_dir, BOT, row.checkpoint_id)
    manifest = verify(place, world.base_hash, BOT)
    assert manifest.config == settings.dpo.model_dump(mode="json")
    assert current(world) == outcome.checkpoint_id
    (run,) = run_rows(world)
    assert (run.kind, run.samples, run.progress["step"]) == (RunKind.DPO, PAIRS, len(steps))
    assert {one.run_id for one in preferences(world)} == {run.run_id}
    with world.database.transaction() as session:
        verdict = session.scalars(select(GateVerdict)).one()
        assert verdict.passed
        assert verdict.numbers["estimate"]["n"] > 0  # what it would earn was asked of it, as of any candidate
        assert choices(session, settings) == []
    again = run_dpo(settings, world.database)
    assert (again.state, again.reason) == ("skipped", "0 fresh choices of persons, 32 are needed")


def test_the_next_ppo_run_goes_on_from_it(world, settings):
    live(world, settings, 90)
    choose(world, settings)
    chosen = run_dpo(settings, world.database)
    assert chosen.promoted, chosen.reason
    outcome = run_ppo(settings, world.database)
    assert outcome.state == RunState.SUCCEEDED
    assert world.checkpoint(outcome.checkpoint_id).parent_id == chosen.checkpoint_id


def test_a_candidate_that_lost_its_way_is_refused_and_its_choices_are_kept(world, settings):
    live(world, settings, 90)
    choose(world, settings)
    wild = with_dpo(settings, learning_rate=0.5, epochs=4)
    outcome = run_dpo(wild, world.database)
    assert outcome.state == RunState.SUCCEEDED
    assert not outcome.promoted
    assert outcome.reason
    assert world.checkpoint(outcome.checkpoint_id).state == CheckpointState.REFUSED
    assert current(world) == world.base_id
    with world.database.transaction() as session:
        left = choices(session, settings)
        assert not is_worth_a_dpo_run(session, settings)  # the same again would come to the same
    assert len(left) == PAIRS
    assert not any(one.fresh for one in left)
    choose(world, settings, 32, seed=5)
    with world.database.transaction() as session:
        assert is_worth_a_dpo_run(session, settings)
        assert len(choices(session, settings)) == PAIRS + 32


def test_without_the_gates_posts_nothing_is_begun(world, settings):
    choose(world, settings, 32)
    outcome = run_dpo(settings, world.database)
    assert outcome.state == "skipped"
    assert "held-out drafts, the gate needs" in outcome.reason
    assert run_rows(world) == []


def test_a_turn_without_choices_never_loads_torch(world, settings, database_url):
    program = (
        "import sys; from app.loading import parse_config; from dbs.session import Database\n"
        "from app.learning.preferences import run_dpo\n"
        f"outcome = run_dpo(parse_config({settings.model_dump(mode='json')!r}), Database({database_url!r}))\n"
        "assert outcome.state == 'skipped', outcome\n"
        "sys.exit(3 if {'torch', 'transformers', 'trl'} & set(sys.modules) else 0)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_one_at_a_time_whoever_learns(world, settings):
    with leases.hold(world.database, BOT, leases.TRAINING_LEASE, 60):
        outcome = run_dpo(settings, world.database)
    assert outcome.state == "skipped"
    assert "held by another process" in outcome.reason


def test_a_run_whose_lease_was_taken_commits_nothing(world, settings):
    live(world, settings, 90)
    choose(world, settings)
    taken = []

    def steal(*_: object) -> None:
        if not taken:
            with world.database.transaction() as session:
                session.execute(update(Lease).values(expires_at=clock.wall_now() - timedelta(seconds=1)))
            taken.append(leases.take(world.database, BOT, leases.TRAINING_LEASE, 60))

    with pytest.raises(leases.LeaseLost):
        run_dpo(settings, world.database, steal)
    assert current(world) == world.base_id
    assert [row.state for row in run_rows(world)] == [RunState.FAILED]
    assert {one.run_id for one in preferences(world)} == {None}


def test_what_a_person_made_of_a_draft_is_what_was_chosen(world, settings, monkeypatch):
    live(world, settings, 90)
    choose(world, settings, 31, edited="The tram is late <|im_end|> again.")
    choose(world, settings, 1, seed=7)
    seen = []

    def stop(trainable, pairs, *_, **__):
        seen.extend(pairs)
        raise KeyboardInterrupt

    monkeypatch.setattr(dpo, "train", stop)
    with pytest.raises(KeyboardInterrupt):
        run_dpo(settings, world.database)
    model = LanguageModel(settings.model)
    ids = PromptBuilder(model.tokenizer, 1000).answer("The tram is late <|im_end|> again.")
    assert sum(pair.chosen_ids == ids for pair in seen) == 31
    assert ids.count(model.eos_id) == 1  # nobody's text holds a special token
    assert all(pair.rejected_ids != ids for pair in seen)


@pytest.fixture
def on_two_adapters(world, settings) -> Trainable:
    """A policy that has learnt something, on a reference that is an adapter itself."""
    trainable = Trainable(settings, [], seed=1)
    shake(trainable.model, POLICY, seed=1, size=0.05)
    state, adapter = trainable.adapter()
    checkpoint_id = uuid.uuid4()
    manifest = Manifest(
        checkpoint_id=checkpoint_id, bot_id=BOT, kind=CheckpointKind.SFT, base_model="tiny",
        base_hash=world.base_hash, stack=[AdapterRef(name="reference", checkpoint_id=checkpoint_id)],
        created_at=clock.now(),
    )  # fmt: skip
    place, _ = checkpoints.write(settings.model.checkpoint_dir, state, adapter, manifest)
    both = Trainable(settings, [(REFERENCE, place)], seed=2)
    shake(both.model, POLICY, seed=3, size=0.05)
    return both


def test_the_policy_is_compared_with_the_reference_as_it_samples(on_two_adapters, settings, tmp_path):
    """The trainer's margins are those of our own scoring: the same adapters, temperature and tokens."""
    model = on_two_adapters.model
    written = write_twice(settings, 12)
    rows = [sample(prompt, output) for prompt, *outputs in written for output in outputs]
    batches = [MicroBatch([i], 0) for i in range(len(rows))]
    found = {}
    for stack in (policy_stack(model), reference_stack(model)):
        with acting_as(model, stack):
            scored = score(model, rows, on_two_adapters.banned, batches)
        found[tuple(stack)] = torch.tensor([float(row.sum()) for row in scored])
    ratios = found[REFERENCE, POLICY] - found[REFERENCE,]
    margins = ratios[::2] - ratios[1::2]
    model.get_base_model().set_attn_implementation("sdpa")  # as it was loaded
    frozen = {name: value.clone() for name, value in get_peft_model_state_dict(model, adapter_name=REFERENCE).items()}
    trained = dpo.train(
        on_two_adapters, [Pair(*one) for one in written], settings.dpo, temperature=0.7, work=tmp_path / "work", seed=0,
        report=lambda *_: None,
    )  # fmt: skip
    # Sampling masks some tokens, which TRL knows nothing of; the tiny model gives them little.
    assert trained.metrics["dpo/margin_before"] == pytest.approx(float(margins.mean()), abs=0.05)
    assert trained.metrics["dpo/accuracy_before"] == pytest.approx(float((margins > 0).float().mean()), abs=0.1)
    assert trained.metrics["dpo/margin_after"] > trained.metrics["dpo/margin_before"] + 0.5
    after = get_peft_model_state_dict(model, adapter_name=REFERENCE)
    assert all(torch.equal(value, after[name]) for name, value in frozen.items())


def test_pairs_of_another_base_are_left_alone(world, settings):
    choose(world, settings, 2)
    with world.database.transaction() as session:
        registry.current(session, BOT).base_hash = "cd" * 32
        other = registry.ensure_base(session, BOT, "another", "ef" * 32)
        registry.promote(session, Path(settings.model.checkpoint_dir), BOT, other.checkpoint_id)
        assert choices(session, settings) == []
