"""Sampling, scoring and judging: exact, and the same whatever else is in the batch."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import save_adapter, save_tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.config import ModelConfig
from app.policy import decoding
from app.policy.adapters import AdapterError
from app.policy.base_model import ModelError
from app.policy.decoding import draw
from app.policy.model import LanguageModel, banned_ids
from app.policy.prefixes import common_prefix

SHARED = list(range(10, 40))
PROMPTS = [[*SHARED, *range(50, 50 + length)] for length in (1, 9, 4, 17, 2, 30, 6)]


def slow_logprobs(directory: Path, prompt: list[int], output: list[int], temperature: float) -> list[float]:
    """One row, one whole forward pass, nothing shared: what the fast way must agree with."""
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    with torch.no_grad():
        logits = model(torch.tensor([prompt + output])).logits[0].double()
    logits[:, banned_ids(tokenizer, logits.shape[1], tokenizer.eos_token_id)] = -math.inf
    logprobs = torch.log_softmax(logits / temperature, -1)
    return [float(logprobs[len(prompt) + at - 1, token]) for at, token in enumerate(output)]


def test_logprobs_as_sampled_are_those_of_score_and_of_a_plain_forward_pass(model, tiny_directory):
    samples = model.sample(PROMPTS, temperature=0.7, max_new_tokens=9, seed=3)
    scores = model.score(PROMPTS, [sample.token_ids for sample in samples], 0.7)
    for prompt, sample, score in zip(PROMPTS, samples, scores, strict=True):
        assert sample.logprobs == pytest.approx(score, abs=1e-4)
        assert sample.logprobs == pytest.approx(slow_logprobs(tiny_directory, prompt, sample.token_ids, 0.7), abs=1e-4)


def test_a_text_does_not_depend_on_the_rows_beside_it(tiny_directory, model_config):
    together = LanguageModel(model_config.model_copy(update={"batch_size": 64}))
    alone = LanguageModel(model_config.model_copy(update={"batch_size": 1}))
    one = together.sample(PROMPTS, temperature=1.0, max_new_tokens=12, seed=5)
    other = alone.sample(PROMPTS, temperature=1.0, max_new_tokens=12, seed=5)
    assert [sample.token_ids for sample in one] == [sample.token_ids for sample in other]
    for left, right in zip(one, other, strict=True):
        assert left.logprobs == pytest.approx(right.logprobs, abs=1e-4)


def test_rows_end_by_themselves_and_leave_the_batch(model):
    samples = model.sample(PROMPTS * 6, temperature=2.0, max_new_tokens=200, seed=1)
    ended = [sample for sample in samples if sample.finished]
    assert 10 < len(ended) <= len(samples)
    for sample in samples:
        assert sample.finished == model.ends(sample.token_ids[-1])
        assert not any(map(model.ends, sample.token_ids[:-1]))
        assert "\n" not in sample.text
        assert sample.finished or len(sample.token_ids) == 200
        assert len(sample.logprobs) == len(sample.token_ids)
    scores = model.score(PROMPTS * 6, [sample.token_ids for sample in samples], 2.0)
    for sample, score in zip(samples, scores, strict=True):
        assert sample.logprobs == pytest.approx(score, abs=1e-3)


def test_the_seed_decides(model):
    first, again, other = (
        [sample.token_ids for sample in model.sample(PROMPTS, temperature=1.0, max_new_tokens=8, seed=seed)]
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_special_tokens_and_rows_of_no_token_are_never_sampled(model):
    tokens = {
        token
        for sample in model.sample(PROMPTS * 20, temperature=2.0, max_new_tokens=30, seed=9)
        for token in sample.token_ids
    }
    assert model.banned_ids
    assert model.eos_id not in model.banned_ids
    assert not tokens & set(model.banned_ids)
    assert max(model.banned_ids) >= len(model.tokenizer)


def test_frequencies_are_the_probabilities(model):
    count = 4000
    samples = model.sample([PROMPTS[0]] * count, temperature=0.7, max_new_tokens=1, seed=11)
    tokens = torch.tensor([sample.token_ids[0] for sample in samples])
    for token, frequency in zip(*tokens.unique(return_counts=True), strict=True):
        (score,) = model.score([PROMPTS[0]], [[int(token)]], 0.7)
        chance = math.exp(score[0])
        assert float(frequency) / count == pytest.approx(
            chance, abs=5 * math.sqrt(chance * (1 - chance) / count) + 1e-9
        )


def test_log_odds_are_those_of_an_explicit_softmax(model, tiny_directory):
    plain = AutoModelForCausalLM.from_pretrained(tiny_directory, dtype=torch.float32)
    spellings = {
        word: model.tokenizer(word, add_special_tokens=False).input_ids for word in ("Yes", " Yes", "No", " No")
    }
    yes = sorted({ids[0] for word, ids in spellings.items() if "Yes" in word and len(ids) == 1} | {*model._yes})
    no = sorted({ids[0] for word, ids in spellings.items() if "No" in word and len(ids) == 1} | {*model._no})
    for prompt, odds in zip(PROMPTS, model.log_odds(PROMPTS), strict=True):
        with torch.no_grad():
            chances = torch.softmax(plain(torch.tensor([prompt])).logits[0, -1].double(), -1)
        assert odds == pytest.approx(math.log(float(chances[yes].sum() / chances[no].sum())), abs=1e-4)


def test_nothing_asked_nothing_answered(model):
    assert model.sample([], temperature=1, max_new_tokens=4, seed=0) == []
    assert model.score([], [], 1) == []
    assert model.log_odds([]) == []


def test_a_nul_byte_does_not_reach_the_database(model):
    nul = model.tokenizer("\x00", add_special_tokens=False).input_ids
    sample = model._sample([(token, -1.0) for token in nul])
    assert (sample.token_ids, sample.text) == (nul, "\ufffd")


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=8), min_size=1, max_size=5))
def test_common_prefix(prompts):
    shared = common_prefix(prompts)
    assert all(prompt[:shared] == prompts[0][:shared] for prompt in prompts)
    assert shared < min(map(len, prompts))
    assert shared == min(map(len, prompts)) - 1 or len({tuple(prompt[: shared + 1]) for prompt in prompts}) > 1


@given(
    st.lists(st.floats(-30, 0), min_size=1, max_size=700),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 699),
)
def test_a_draw_has_positive_probability_and_is_the_inverse_of_the_distribution(logits, uniform, banned):
    weights = torch.tensor(logits)
    if len(logits) > 1:
        weights[banned % len(logits)] = -math.inf
    logprobs = torch.log_softmax(weights, 0)[None]
    token = int(draw(logprobs, torch.tensor([uniform], dtype=torch.float64)))
    chances = logprobs[0].exp().double()
    upto = (chances / chances.sum()).cumsum(0)
    assert chances[token] > 0
    assert upto[token] >= uniform - 1e-6
    assert token == 0 or upto[token - 1] <= uniform + 1e-6


def test_adapters_act_by_addition_and_go_without_a_trace(model, tiny_directory, tmp_path):
    from peft import PeftModel

    reference = save_adapter(tmp_path / "reference", tiny_directory, seed=1)
    policy = save_adapter(tmp_path / "policy", tiny_directory, seed=2, modules=("q_proj", "k_proj", "v_proj"))
    outputs = [list(range(60, 70))] * len(PROMPTS)

    def scored(stack: list[Path]) -> list[list[float]]:
        model.use(stack)
        return model.score(PROMPTS, outputs, 0.7)

    def merged(stack: list[Path]) -> list[list[float]]:
        """The slow way: each adapter merged into a fresh model in turn."""
        plain = AutoModelForCausalLM.from_pretrained(tiny_directory)
        for adapter in stack:
            plain = PeftModel.from_pretrained(plain, adapter).merge_and_unload()
        place = tmp_path / f"merged{len(list(tmp_path.iterdir()))}"
        plain.save_pretrained(place)
        AutoTokenizer.from_pretrained(tiny_directory).save_pretrained(place)
        return LanguageModel(ModelConfig(hf_repo_id=str(place), device="cpu", dtype="float32")).score(
            PROMPTS, outputs, 0.7
        )

    base = scored([])
    wanted = {(): base, (reference,): merged([reference]), (reference, policy): merged([reference, policy])}
    assert max(abs(a - b) for a, b in zip(wanted[(reference,)][0], base[0], strict=True)) > 0.05
    for stack in [(reference,), (reference, policy), (), (reference, policy), (reference,), ()]:
        for got, expected in zip(scored(list(stack)), wanted[stack], strict=True):
            assert got == pytest.approx(expected, abs=1e-3)
    assert scored([]) == base


def test_few_adapters_stay_and_forgotten_ones_come_back(tiny_directory, model_config, tmp_path):
    model = LanguageModel(model_config)
    adapters = [save_adapter(tmp_path / str(seed), tiny_directory, seed=seed) for seed in range(7)]
    outputs = [[60, 61]] * len(PROMPTS)
    first = {}
    for adapter in adapters:
        model.use([adapter])
        first[adapter] = model.score(PROMPTS, outputs, 1.0)
    assert len(model._adapters._loaded) <= 4
    for adapter in adapters:
        model.use([adapter])
        assert model.score(PROMPTS, outputs, 1.0) == first[adapter]


def test_an_adapter_that_does_not_fit_is_refused_and_changes_nothing(model, tmp_path, tiny_directory):
    wide = tmp_path / "wide"
    AutoTokenizer.from_pretrained(tiny_directory).save_pretrained(wide)
    base = AutoModelForCausalLM.from_pretrained(tiny_directory)
    config = base.config
    config.hidden_size, config.head_dim = 64, 16
    type(base)(config).save_pretrained(wide)
    foreign = save_adapter(tmp_path / "foreign", wide, seed=1)
    before = model.log_odds(PROMPTS)
    for place in (foreign, tmp_path / "nothing"):
        with pytest.raises(AdapterError, match=place.name):
            model.use([place])
        assert model.log_odds(PROMPTS) == before


@pytest.mark.parametrize(
    ("name", "words"),
    [("/nowhere/at/all", "config.json"), ("no-such-model", "owner/name"), ("./here", "config.json")],
)
def test_a_model_that_is_not_there_is_one_clear_error(name, words):
    with pytest.raises(ModelError, match=r"model\.hf_repo_id") as caught:
        LanguageModel(ModelConfig(hf_repo_id=name))
    assert words in str(caught.value)


def test_weights_that_are_not_safetensors_are_refused(tmp_path):
    directory = save_tiny_model(tmp_path / "model")
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        LanguageModel(ModelConfig(hf_repo_id=str(directory)))


def test_a_model_without_a_chat_template_is_refused(tmp_path):
    directory = save_tiny_model(tmp_path / "model")
    (directory / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="Instruct"):
        LanguageModel(ModelConfig(hf_repo_id=str(directory)))


@pytest.mark.parametrize(("at_once", "in_pieces"), [(1, 5), (25, 3), (1000, 1)])
def test_a_batch_may_be_read_a_few_rows_at_a_time(model, monkeypatch, at_once, in_pieces):
    prompts = [[*range(10, 40), *range(50, 50 + length)] for length in (9, 4, 17, 2, 12)]
    outputs = [[60 + row, 70, 71] for row in range(len(prompts))]
    odds, scores = model.log_odds(prompts), model.score(prompts, outputs, 0.7)
    texts = model.sample(prompts, temperature=0.7, max_new_tokens=12, seed=2)
    monkeypatch.setattr(decoding, "READ_AT_ONCE", at_once)
    (batch,) = model._decoder.batches(prompts, 5, prompts=prompts)
    assert len(list(model._decoder._read(batch))) == in_pieces
    assert model.log_odds(prompts) == pytest.approx(odds, abs=1e-4)
    again = model.sample(prompts, temperature=0.7, max_new_tokens=12, seed=2)
    assert [text.token_ids for text in again] == [text.token_ids for text in texts]
    for left, right in zip(model.score(prompts, outputs, 0.7), scores, strict=True):
        assert left == pytest.approx(right, abs=1e-4)


def test_a_batch_without_a_common_beginning_is_read_in_pieces_too(model, monkeypatch):
    prompts = [[*range(10 + row, 40 + 2 * row)] for row in range(5)]
    texts = model.sample(prompts, temperature=0.7, max_new_tokens=12, seed=2)
    monkeypatch.setattr(decoding, "READ_AT_ONCE", 70)
    again = model.sample(prompts, temperature=0.7, max_new_tokens=12, seed=2)
    assert [text.token_ids for text in again] == [text.token_ids for text in texts]


def test_a_prompt_that_is_continued_several_times_is_read_once(model, monkeypatch):
    prompts = [[*range(10, 40), *range(start, start + length)] for start, length in ((50, 9), (60, 4)) * 2]
    texts = model.sample(prompts, temperature=0.7, max_new_tokens=12, seed=2)
    assert len({tuple(text.token_ids) for text in texts}) == len(texts)
    read, forward = [], model._decoder._decoder.forward

    def reading(*arguments, **options):
        read.append(tuple(options["input_ids"].shape))
        return forward(*arguments, **options)

    monkeypatch.setattr(model._decoder._decoder, "forward", reading)
    again = model.sample(prompts, temperature=0.7, max_new_tokens=12, seed=2)
    assert [text.token_ids for text in again] == [text.token_ids for text in texts]
    assert read == [(2, 9)], "the two different prompts; what both begin with was kept"


def test_what_prompts_begin_with_is_read_once_for_each_stack_of_adapters(model, tiny_directory, tmp_path, monkeypatch):
    prompts = [[*range(10, 40), 50 + row] for row in range(3)]
    stacks = [
        [],
        [save_adapter(tmp_path / "a", tiny_directory, seed=1)],
        [save_adapter(tmp_path / "b", tiny_directory, seed=2)],
    ]
    read = []
    real = model._decoder._read_prefix
    monkeypatch.setattr(model._decoder, "_read_prefix", lambda tokens: read.append(tokens) or real(tokens))
    model._decoder._prefixes.clear()
    odds = []
    for stack in (*stacks, *stacks):
        model.use(stack)
        odds.append(model.log_odds(prompts))
    assert odds[:3] == odds[3:]
    assert odds[0] != odds[1] != odds[2]
    assert read == [tuple(range(10, 40))] * 3
    for other in range(decoding.KEPT_PREFIXES):
        model.log_odds([[*range(20 + other, 50 + other), 70 + row] for row in range(3)])
    model.log_odds(prompts)
    assert len(read) == 3 + decoding.KEPT_PREFIXES + 1, "the one that was used longest ago was let go of"
    assert len(model._decoder._prefixes) == decoding.KEPT_PREFIXES
    model.use([])
