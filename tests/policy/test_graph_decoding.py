"""Sampling with a step of our own, with slots or without, is sampling with transformers' decoder. On a processor
nothing is captured; `tests/gpu` does the same where there is a GPU."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_model import save_adapter

from app.policy import graph_decoding, llama_step
from app.policy.adapters import RESIDENT
from app.policy.decoding_slots import Slots, power_of_two
from app.policy.eager_decoding import EagerSampler
from app.policy.graph_decoding import GraphSampler
from app.policy.model import LanguageModel

SHARED = list(range(10, 40))
TOGETHER = [[*SHARED, *range(50, 50 + length)] for length in (1, 9, 4, 17, 2, 30, 6)]
APART = [list(range(50 + 3 * row, 60 + 4 * row)) for row in range(5)]


@pytest.fixture(scope="module")
def models(model_config):
    """The model as transformers takes its steps, as a processor samples from it, and as a GPU does."""
    config = model_config.model_copy(update={"batch_size": 8})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(llama_step, "fits", lambda model: False)
        plain = LanguageModel(config)
    stepped = LanguageModel(config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_decoding, "pays", lambda model: True)
        return {"plain": plain, "eager": stepped, "slots": LanguageModel(config)}


@pytest.fixture(params=["eager", "slots"])
def pair(models, request):
    """Transformers' steps and ours, without adapters."""
    return without_adapters(models["plain"], models[request.param])


@pytest.fixture
def slotted_pair(models):
    return without_adapters(models["plain"], models["slots"])


def without_adapters(*pair):
    for model in pair:
        model.use([])
    return pair


def assert_alike(pair, prompts, **how):
    plain, ours = (model.sample(prompts, seed=3, **how) for model in pair)
    assert [sample.token_ids for sample in ours] == [sample.token_ids for sample in plain]
    for left, right in zip(ours, plain, strict=True):
        assert left.logprobs == pytest.approx(right.logprobs, abs=1e-4)
        assert left.finished == right.finished
    return ours


@pytest.mark.parametrize("prompts", [TOGETHER, APART, TOGETHER[:1]], ids=["with a prefix", "without", "one"])
@pytest.mark.parametrize("longest", [1, 2, 12, 70])
def test_same_texts(pair, prompts, longest):
    assert_alike(pair, prompts, temperature=0.7, max_new_tokens=longest)


def test_batches_shrink_as_texts_end(slotted_pair, monkeypatch):
    moved = []
    compact = Slots.compact
    monkeypatch.setattr(Slots, "compact", lambda slots, alive: moved.append(len(alive)) or compact(slots, alive))
    samples = assert_alike(slotted_pair, TOGETHER, temperature=2.0, max_new_tokens=200)
    assert {sample.finished for sample in samples} >= {True}
    assert len({len(sample.token_ids) for sample in samples}) > 3
    assert moved, "nothing was moved to fewer slots"


@pytest.mark.parametrize(
    "modules",
    [("q_proj", "k_proj", "v_proj"), ("v_proj",), ("o_proj", "gate_proj", "down_proj")],
    ids=["as by default", "one of three", "others"],
)
def test_adapters(pair, tiny_directory, tmp_path, modules):
    lower = save_adapter(tmp_path / "lower", tiny_directory, seed=1, modules=modules)
    upper = save_adapter(tmp_path / "upper", tiny_directory, seed=2, modules=modules)
    other = save_adapter(tmp_path / "other", tiny_directory, seed=4, modules=modules)
    texts = []
    for stack in ([], [lower], [lower, upper], [lower, other], [], [other]):
        for model in pair:
            model.use(stack)
        samples = assert_alike(pair, TOGETHER, temperature=0.7, max_new_tokens=12)
        texts.append([sample.token_ids for sample in samples])
    assert texts[0] == texts[4]
    assert all(texts[i] != texts[j] for i in range(6) for j in range(i) if (j, i) != (0, 4))


def test_adapters_that_were_put_in_the_place_of_others(pair, tiny_directory, tmp_path):
    texts = []
    for seed in range(2 * RESIDENT):
        adapter = save_adapter(tmp_path / str(seed), tiny_directory, seed=seed)
        for model in pair:
            model.use([adapter])
        texts.append([s.token_ids for s in assert_alike(pair, TOGETHER, temperature=0.7, max_new_tokens=12)])
    assert all(texts[i] != texts[j] for i in range(len(texts)) for j in range(i))


def test_weights_are_in_memory_once(pair):
    _, ours = pair
    attention = ours._decoder._decoder.layers[0].self_attn
    starts = {getattr(attention, name).weight.untyped_storage().data_ptr() for name in ("q_proj", "k_proj", "v_proj")}
    assert len(starts) == 1


def test_room_grows_and_is_kept(slotted_pair):
    _, slotted = slotted_pair
    sampler = slotted._decoder._sampler
    slotted.sample(TOGETHER, temperature=1.0, max_new_tokens=5, seed=1)
    before = sampler._slots
    slotted.sample(APART, temperature=1.0, max_new_tokens=5, seed=1)
    assert sampler._slots is before
    long = [[*SHARED, *range(50, 90), *range(20, 380)]] * 2
    assert_alike(
        slotted_pair,
        [row[:length] for row, length in zip(long, (390, 400), strict=True)],
        temperature=1.0,
        max_new_tokens=9,
    )
    assert sampler._slots is not before
    assert all(new >= old for new, old in zip(sampler._slots.sizes, before.sizes, strict=True))


def test_powers_of_two():
    assert [power_of_two(number) for number in (1, 2, 3, 4, 5, 31, 32, 33)] == [1, 2, 4, 4, 8, 32, 32, 64]


def test_who_samples(models):
    kinds = {
        name: (type(model._decoder._sampler), model._decoder._sampler._step is None) for name, model in models.items()
    }
    assert kinds == {"plain": (EagerSampler, True), "eager": (EagerSampler, False), "slots": (GraphSampler, False)}
    assert not graph_decoding.pays(models["eager"]._adapters.base), "this is a processor"


@pytest.mark.parametrize("prompts", [TOGETHER, APART, TOGETHER[:1]], ids=["with a prefix", "without", "one"])
def test_in_bfloat16_a_step_is_what_scoring_finds(model_config, tiny_directory, tmp_path, prompts):
    model = LanguageModel(model_config.model_copy(update={"batch_size": 8, "dtype": "bfloat16"}))
    modules = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "down_proj")
    texts = []
    for stack in ([], [save_adapter(tmp_path / "a", tiny_directory, seed=1, modules=modules)]):
        model.use(stack)
        samples = model.sample(prompts, temperature=0.7, max_new_tokens=20, seed=1)
        scored = model.score(prompts, [sample.token_ids for sample in samples], 0.7)
        for sample, chances in zip(samples, scored, strict=True):
            assert sample.logprobs == pytest.approx(chances, abs=0.4)
            assert np.mean(sample.logprobs) == pytest.approx(np.mean(chances), abs=0.03)
        texts.append([sample.token_ids for sample in samples])
    assert texts[0] != texts[1]
