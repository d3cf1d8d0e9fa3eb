"""What only a GPU can show: the fused kernels, the captured step, and training by them. `make test-gpu`.

Nothing here needs the servers of the other tests. Where bfloat16 is compared, it is with float32 on the processor.
"""

from __future__ import annotations

import uuid
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_model import save_adapter, save_tiny_model

from app.config import ModelConfig, VibeBotConfig
from app.learning.features import NAMES
from app.learning.forward import micro_batches
from app.learning.ppo import train
from app.learning.samples import POLICY, Sample
from app.learning.scoring import acting_as, score
from app.learning.trainable import Trainable
from app.policy import flash, graph_decoding, shared_attention
from app.policy.decoding_slots import Shape, Slots
from app.policy.model import LanguageModel

pytestmark = pytest.mark.gpu

SHARED = list(range(10, 40))
TOGETHER = [[*SHARED, *range(50, 50 + length)] for length in (1, 9, 4, 17, 2, 30, 6)]
APART = [list(range(50 + 3 * row, 60 + 4 * row)) for row in range(5)]
COARSE = 0.02  # bfloat16 has eight bits; relative, by norms


def close(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    found, wanted = found.double().cpu(), wanted.double().cpu()
    return bool((found - wanted).norm() <= COARSE * wanted.norm())


@pytest.fixture(scope="module", autouse=True)
def gpu():
    """`make test` leaves these out by their mark; whoever runs them has asked for a GPU."""
    if not torch.cuda.is_available():
        pytest.fail("torch finds no GPU: is it a build for CUDA, and does nvidia-smi show one?")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def config(directory, **changes) -> ModelConfig:
    facts = {"device": "cuda", "dtype": "bfloat16", "batch_size": 8, "max_prompt_tokens": 2000} | changes
    return ModelConfig(hf_repo_id=str(directory), **facts)


@pytest.fixture(scope="module")
def model(directory):
    return LanguageModel(config(directory))


@pytest.mark.parametrize("causal", [True, False])
def test_attention_and_its_gradients_are_those_of_the_formula(causal):
    torch.manual_seed(1)
    rows, heads, kv_heads, tokens, width = 3, 6, 2, 37, 64
    query, gradient = torch.randn(2, rows, heads, tokens, width, device="cuda")
    key, value = torch.randn(2, rows, kv_heads, tokens, width, device="cuda")
    parts = [part.bfloat16() for part in (query, key, value)]
    assert flash.usable(parts[0])
    out, lse = flash.attention(flash.Parts(*parts), width**-0.5, causal=causal)
    wanted = [part.float().requires_grad_() for part in parts]
    wide = [part.repeat_interleave(heads // kv_heads, dim=1) for part in wanted[1:]]
    theirs, their_lse = shared_attention._explicit(wanted[0], *wide, width**-0.5, bias=None, causal=causal)
    assert close(out, theirs)
    assert torch.allclose(lse, their_lse, atol=0.02)
    theirs.backward(gradient)
    attended = flash.Attended(out, lse)
    found = flash.gradients(gradient.bfloat16(), flash.Parts(*parts), attended, width**-0.5, causal=causal)
    for mine, tensor in zip(found, wanted, strict=True):
        assert close(mine, tensor.grad)


@pytest.mark.parametrize("tokens", [1, 21])
def test_attention_after_a_prefix_is_that_of_a_processor(tokens):
    torch.manual_seed(2)
    rows, heads, kv_heads, before, width = 5, 6, 2, 23, 64
    own = [torch.randn(rows, count, tokens, width).bfloat16() for count in (heads, kv_heads, kv_heads)]
    shared = [torch.randn(1, kv_heads, before, width).bfloat16() for _ in range(2)]
    gradient = torch.randn(rows, tokens, heads, width).bfloat16()
    outcomes = []
    for device, dtype in (("cpu", torch.float32), ("cuda", torch.bfloat16)):
        parts = [part.to(device, dtype).requires_grad_() for part in (*own, *shared)]
        prefix = SimpleNamespace(layers=[SimpleNamespace(keys=parts[3], values=parts[4])])
        module = SimpleNamespace(layer_idx=0)
        out, _ = shared_attention.attend(module, *parts[:3], None, scaling=width**-0.5, shared_prefix=prefix)
        out.backward(gradient.to(device, dtype))
        outcomes.append([out.detach(), *(part.grad for part in parts)])
    for wanted, found in zip(*outcomes, strict=True):
        assert close(found, wanted)


@pytest.mark.parametrize("sets", [1, 5], ids=["one set of keys for all", "a set for each"])
def test_one_token_is_that_of_the_formula(sets):
    torch.manual_seed(3)
    rows, heads, kv_heads, room, width = 5, 6, 2, 256, 64
    query = torch.randn(rows, heads, width, device="cuda").bfloat16()
    key, value = torch.randn(2, sets * room, kv_heads, width, device="cuda").bfloat16()
    each = torch.arange(sets + 1, dtype=torch.int32, device="cuda")
    used = torch.tensor([1, 7, 64, 200, 256][-sets:], dtype=torch.int32, device="cuda") - int(sets == 1) * 100
    starts = each * (rows // sets), each * room
    out, lse = graph_decoding.one_token(flash.Parts(query, key, value), starts, used)
    exact = flash.Parts(query.float(), key.float(), value.float())
    wanted, wanted_lse = graph_decoding.one_token(exact, starts, used)
    assert close(out, wanted)
    assert torch.allclose(lse, wanted_lse, atol=0.02)


def test_slots_attend_to_their_own_tokens_as_the_formula_says():
    """By cuDNN's kernel on a GPU for which it has one, by FlashAttention-2's on others."""
    torch.manual_seed(4)
    rows, room, width = 4, 256, 64
    step = SimpleNamespace(heads=6, kv_heads=2, head_width=width, layers=1)
    slots = Slots(step, (rows, room, 128, 8), torch.empty(0, dtype=torch.bfloat16, device="cuda"))
    for part in (slots.keys, slots.values):
        part.normal_()
    slots.used.copy_(torch.tensor([1, 7, 100, 128]))
    query = torch.randn(rows, 6, width, device="cuda").bfloat16()
    out, lse = graph_decoding.OwnAttention(slots, Shape(rows, False, 128))(0, query)
    exact = flash.Parts(query.float(), slots.keys[0].float(), slots.values[0].float())
    wanted, wanted_lse = graph_decoding.one_token(exact, (slots.row_starts, slots.key_starts), slots.used)
    assert close(out, wanted)
    assert torch.allclose(lse, wanted_lse, atol=0.02)


@pytest.mark.parametrize("prompts", [TOGETHER, APART, TOGETHER[:1]], ids=["with a prefix", "without", "one"])
def test_what_a_captured_step_draws_is_logged_as_scoring_finds_it(model, prompts):
    model.use([])
    for seed in range(3):
        samples = model.sample(prompts, temperature=0.7, max_new_tokens=40, seed=seed)
        scored = model.score(prompts, [sample.token_ids for sample in samples], 0.7)
        for sample, chances in zip(samples, scored, strict=True):
            assert sample.logprobs == pytest.approx(chances, abs=0.5)
            assert np.mean(sample.logprobs) == pytest.approx(np.mean(chances), abs=0.05)
    assert model._decoder._sampler._graphs


def test_a_captured_step_draws_what_an_eager_one_draws(directory, monkeypatch):
    captured = LanguageModel(config(directory, dtype="float32"))
    monkeypatch.setattr(graph_decoding, "pays", lambda model: False)
    eager = LanguageModel(config(directory, dtype="float32"))
    for prompts in (TOGETHER, APART):
        how = {"temperature": 1.5, "max_new_tokens": 120, "seed": 4}
        ours, theirs = captured.sample(prompts, **how), eager.sample(prompts, **how)
        assert [sample.token_ids for sample in ours] == [sample.token_ids for sample in theirs]
        for left, right in zip(ours, theirs, strict=True):
            assert left.logprobs == pytest.approx(right.logprobs, abs=1e-3)


def test_adapters_are_swapped_under_a_captured_step(model, directory, tmp_path):
    stacks = [[], [save_adapter(tmp_path / "a", directory, seed=1)], [save_adapter(tmp_path / "b", directory, seed=2)]]
    texts = []
    for stack in (*stacks, *stacks):
        model.use(stack)
        samples = model.sample(TOGETHER, temperature=0.7, max_new_tokens=20, seed=1)
        scored = model.score(TOGETHER, [sample.token_ids for sample in samples], 0.7)
        for sample, chances in zip(samples, scored, strict=True):
            assert np.mean(sample.logprobs) == pytest.approx(np.mean(chances), abs=0.05)
        texts.append([sample.token_ids for sample in samples])
    assert texts[:3] == texts[3:]
    assert texts[0] != texts[1] != texts[2]


def test_ppo_makes_what_was_rewarded_likelier(directory):
    who = {"name": "Explorer", "description": "A reporter.", "tone": "curious", "interests": ["astronomy"]}
    settings = VibeBotConfig(
        user_id="1", accounts_to_follow=["a"], persona=who, model=config(directory),
        ppo={"epochs": 4, "batch_size": 24, "micro_batch_size": 8, "learning_rate": 0.01, "kl_coefficient": 0.0},
    )  # fmt: skip
    writer = LanguageModel(settings.model)
    prompts = [[*SHARED, 50 + row] for row in range(24)]
    outputs = [sample.token_ids for sample in writer.sample(prompts, temperature=1.0, max_new_tokens=12, seed=1)]
    logged = writer.score(prompts, outputs, 1.0)
    rewards = [1.0 if row % 2 else -1.0 for row in range(24)]
    samples = [
        Sample(uuid.UUID(int=i), prompts[i], outputs[i], logged[i], 1.0, rewards[i], np.zeros(len(NAMES)))
        for i in range(24)
    ]
    trainable = Trainable(settings, [], seed=1)
    trained = train(trainable.model, samples, settings.ppo, banned=trainable.banned, seed=1)
    assert trained.steps > 0
    assert np.isfinite(list(trained.metrics.values())).all()
    with acting_as(trainable.model, [POLICY]):
        after = score(trainable.model, samples, trainable.banned, micro_batches(samples, 8))
    moved = [float(new.sum()) - sum(old) for new, old in zip(after, logged, strict=True)]
    assert np.mean(moved[1::2]) > np.mean(moved[::2]) + 0.1
