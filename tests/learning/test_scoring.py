"""Log-probabilities of logged outputs against the obvious way to compute them."""

from __future__ import annotations

import random

import pytest
import torch

from app.learning import forward
from app.learning.forward import MicroBatch, Reader, micro_batches
from app.learning.scoring import acting_as, output_logprobs, policy_stack, reference_stack, score
from app.policy import shared_attention
from tests.learning.conftest import BANNED, VOCABULARY, sample, shake, slow_logprobs, tiny_model


def mixed(n: int, shared: int, seed: int = 1) -> list:
    draw = random.Random(seed)
    token = lambda: draw.randrange(2, VOCABULARY)  # noqa: E731
    prefix = [token() for _ in range(shared)]
    return [
        sample(
            [*prefix, *(token() for _ in range(draw.randrange(1, 9)))],
            [token() for _ in range(draw.randrange(1, 12))],
            temperature=draw.choice([0.5, 0.7, 1.0]),
        )
        for _ in range(n)
    ]


@pytest.mark.parametrize("shared", [0, 5, 30])
def test_batched_scores_equal_one_by_one(shared):
    model = tiny_model()
    shake(model, "policy", 3)
    samples = mixed(9, shared)
    found = score(model, samples, BANNED, micro_batches(samples, 4))
    for one, row in zip(samples, found, strict=True):
        assert row.tolist() == pytest.approx(slow_logprobs(model, one), abs=2e-5)


def test_identical_prompts_and_a_single_sample():
    model = tiny_model()
    same = [sample(range(2, 30), [3, 4, 5]), sample(range(2, 30), [6])]
    for batch in (same, same[:1], [sample([7], [8])]):
        rows = score(model, batch, BANNED, micro_batches(batch, 4))
        for one, row in zip(batch, rows, strict=True):
            assert row.tolist() == pytest.approx(slow_logprobs(model, one), abs=2e-5)


@pytest.mark.parametrize("batches", [[[0, 1, 2, 3]], [[0, 2], [1, 3]]])
def test_gradients_flow_through_the_shared_prefix(batches):
    """The prompt's keys and values depend on the adapter too: run once, they still carry their gradient."""
    samples = mixed(4, 30)
    gradients, read = [], []
    for shared in (30, 0):
        model = tiny_model()
        shake(model, "policy", 3)
        decoder = model.get_base_model().get_decoder()
        hook = decoder.register_forward_pre_hook(
            lambda _, __, options: read.append(tuple(options["input_ids"].shape)), with_kwargs=True
        )
        with acting_as(model, policy_stack(model), trainable="policy"), hook:
            reader = Reader(model)
            for batch in batches:
                output_logprobs(reader, [samples[i] for i in batch], shared, BANNED)[0].sum().backward()
            reader.backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    for together, apart in zip(*gradients, strict=True):
        torch.testing.assert_close(together, apart, rtol=1e-3, atol=1e-4)
    assert [rows for rows, tokens in read] == [1, *map(len, batches), *map(len, batches)], "the prefix, once for all"
    assert read[0] == (1, 30)


def test_a_prefix_may_be_read_in_the_same_pass_as_its_rows():
    """As a GPU does it."""
    base, shared = tiny_model().get_base_model(), 30
    base.set_attn_implementation(shared_attention.NAME)
    draw = torch.Generator().manual_seed(1)
    prefix, rows = (torch.randint(2, VOCABULARY, shape, generator=draw) for shape in ((shared,), (4, 9)))
    positions = shared + torch.arange(9)[None].expand_as(rows)
    together = forward._read_together(prefix, base, rows, positions)
    whole = base.get_decoder()(input_ids=torch.cat((prefix.expand(4, -1), rows), dim=1)).last_hidden_state
    torch.testing.assert_close(together, whole[:, shared:], rtol=1e-4, atol=1e-5)


def test_a_reader_without_a_way_back_has_none():
    model = tiny_model()
    reader = Reader(model)
    with torch.no_grad():
        output_logprobs(reader, mixed(2, 30), 30, BANNED)
    reader.backward()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_probabilities_of_all_allowed_tokens_add_up_to_one():
    model = tiny_model()
    tokens = [t for t in range(VOCABULARY) if t not in BANNED.tolist()]
    rows, _ = output_logprobs(Reader(model), [sample([5, 6, 7], [t]) for t in tokens], 0, BANNED)
    assert float(rows.exp().sum()) == pytest.approx(1.0, abs=1e-5)
    banned, _ = output_logprobs(Reader(model), [sample([5, 6, 7], [0])], 0, BANNED)
    assert float(banned.max()) == -float("inf")


def test_reference_is_the_adapter_and_not_the_base():
    model = tiny_model(with_reference=True)
    shake(model, "policy", 5)
    one = sample([4, 5, 6], [7, 8])
    by_stack = {}
    for stack in ([], ["reference"], ["reference", "policy"]):
        with acting_as(model, stack):
            by_stack[tuple(stack)] = score(model, [one], BANNED, [MicroBatch([0], 0)])[0].tolist()
    assert reference_stack(model) == ["reference"]
    assert policy_stack(model) == ["reference", "policy"]
    assert len({tuple(round(x, 4) for x in row) for row in by_stack.values()}) == 3
    base = tiny_model()  # same seed, fresh policy: the base itself
    assert by_stack[()] == pytest.approx(score(base, [one], BANNED, [MicroBatch([0], 0)])[0].tolist(), abs=1e-5)


def test_only_the_policy_is_trainable():
    model = tiny_model(with_reference=True)
    with acting_as(model, policy_stack(model), trainable="policy"):
        names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert names
    assert all(".policy." in name for name in names)
    with acting_as(model, []):
        assert not [name for name, p in model.named_parameters() if p.requires_grad]


def test_micro_batches_hold_every_sample_once_and_one_author_each():
    samples = [sample([3] * n, [4] * m, author=who) for n in (2, 9, 4) for m in (1, 5) for who in ("policy", "old")]
    batches = micro_batches(samples, 4)
    assert sorted(i for batch in batches for i in batch.members) == list(range(len(samples)))
    assert all(len({samples[i].author for i in batch.members}) == 1 for batch in batches)
    assert max(len(batch.members) for batch in batches) <= 4


def test_micro_batches_keep_prompts_that_begin_alike_together():
    one, other = list(range(2, 40)), [2, 3, *range(40, 2, -1)]
    samples = [sample([*(one if i % 3 else other), 5 + i], [4]) for i in range(12)]
    batches = micro_batches(samples, 4)
    assert [len({i % 3 == 0 for i in batch.members}) for batch in batches] == [1, 1, 1]
    assert [batch.shared for batch in batches] == [38, 38, 40]


def test_micro_batches_hold_no_more_tokens_than_fit(monkeypatch):
    monkeypatch.setattr(forward, "MAX_TOKENS", 40)
    samples = [sample([3] * (2 + i), [4] * 3) for i in range(14)] + [sample([5] * 90, [4])]
    batches = micro_batches(samples, 8)
    assert sorted(i for batch in batches for i in batch.members) == list(range(15))
    assert max(len(batch.members) for batch in batches) <= 8
    for batch, _ in batches:
        longest = max(len(samples[i].prompt_ids) + len(samples[i].output_ids) for i in batch)
        assert len(batch) == 1 or len(batch) * longest <= 40 + 2 * len(batch)  # the shared start is not counted
