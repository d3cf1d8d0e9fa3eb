"""PPO: each formula against an obvious version, the gradient against finite differences, and whether it learns."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from app.config import PPOConfig
from app.learning.experience import (
    SEQUENCE_ESS,
    TrainingError,
    advantages,
    ess,
    importance_weights,
    k3,
    prepare,
    stop_reason,
)
from app.learning.forward import MicroBatch, Reader, micro_batches
from app.learning.ppo import _steps, policy_loss, train
from app.learning.scoring import acting_as, output_logprobs, policy_stack, score
from tests.learning.conftest import BANNED, END, sample, shake, slow_logprobs, tiny_model, write

CONFIG = PPOConfig(batch_size=16, micro_batch_size=8, epochs=2, learning_rate=3e-3)
PROMPTS = [[5, 6, 7], [9, 8], [11, 12, 13, 14], [3, 30]]
LIKED = set(range(10, 18))


def slow_loss(logprobs, proximal, reference, *, lengths, weight, advantage, config, scale) -> float:
    total = 0.0
    for i, length in enumerate(lengths):
        for t in range(length):
            ratio = math.exp(logprobs[i][t] - proximal[i][t])
            clipped = min(max(ratio, 1 - config.clip), 1 + config.clip)
            gain = weight[i][t] * min(ratio * advantage[i], clipped * advantage[i])
            d = reference[i][t] - logprobs[i][t]
            total += gain - config.kl_coefficient * (math.exp(d) - 1 - d)
    return -total / scale


def random_matrices(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    lengths = [4, 1, 3]
    mask = torch.arange(4)[None] < torch.tensor(lengths)[:, None]
    logprobs, proximal, reference = (
        -2 + 0.3 * torch.randn(3, 4, generator=generator, dtype=torch.float64) for _ in range(3)
    )
    weight = torch.rand(3, 4, generator=generator, dtype=torch.float64) * 2
    advantage = torch.tensor([[1.2], [-0.7], [0.1]], dtype=torch.float64)
    return lengths, mask, logprobs, proximal, reference, weight, advantage


@pytest.mark.parametrize("seed", range(5))
def test_loss_is_the_formula(seed):
    lengths, mask, logprobs, proximal, reference, weight, advantage = random_matrices(seed)
    loss, metrics = policy_loss(
        logprobs, proximal, reference, mask=mask, weight=weight, advantage=advantage, config=CONFIG, scale=7.0
    )
    slow = slow_loss(
        logprobs.tolist(),
        proximal.tolist(),
        reference.tolist(),
        lengths=lengths,
        weight=weight.tolist(),
        advantage=advantage[:, 0].tolist(),
        config=CONFIG,
        scale=7.0,
    )
    assert float(loss) == pytest.approx(slow, rel=1e-9)
    clipped = [
        (ratio > 1.2 and advantage[i, 0] > 0) or (ratio < 0.8 and advantage[i, 0] < 0)
        for i, length in enumerate(lengths)
        for ratio in torch.exp(logprobs - proximal)[i, :length].tolist()
    ]
    assert metrics["ppo/clip_fraction"] == pytest.approx(np.mean(clipped))
    assert metrics["objective/kl"] == pytest.approx(float((k3(reference - logprobs) * mask).sum(1).mean()))


def test_gradient_of_the_whole_loss_equals_finite_differences():
    """Through the softmax, the shared prefix, the clip, the weight and the KL, down to the adapter's parameters."""
    model = tiny_model()
    shake(model, "policy", 1, size=0.2)
    prompt = [*range(3, 25)]  # long enough to be shared
    samples = write(model, prompt, 3, length=5, seed=1)
    mask = torch.arange(5)[None] < torch.tensor([len(s.output_ids) for s in samples])[:, None]
    generator = torch.Generator().manual_seed(4)
    proximal, reference = ((-2 + 0.5 * torch.randn(3, 5, generator=generator)) * mask for _ in range(2))

    def loss() -> torch.Tensor:
        return policy_loss(
            output_logprobs(Reader(model), samples, 0, BANNED)[0], proximal, reference,
            mask=mask, weight=torch.full((3, 5), 1.3), advantage=torch.tensor([[1.0], [-0.5], [0.3]]),
            config=CONFIG, scale=3.0,
        )[0]  # fmt: skip

    def slope(flat: torch.Tensor, at: int, step: float = 2e-3) -> float:
        values = []
        for sign in (1, -1):
            flat[at] += sign * step
            with torch.no_grad():
                values.append(float(loss()))
            flat[at] -= sign * step
        return (values[0] - values[1]) / (2 * step)

    with acting_as(model, policy_stack(model), trainable="policy"):
        loss().backward()
        pairs = [
            (float(p.grad.view(-1)[at]), slope(p.data.view(-1), at))
            for p in model.parameters()
            if p.requires_grad
            for at in (0, p.numel() // 2, p.numel() - 1)
        ]
    assert len(pairs) >= 24
    assert max(abs(exact) for exact, _ in pairs) > 0.05
    for exact, numeric in pairs:
        assert exact == pytest.approx(numeric, rel=0.02, abs=2e-3)


def test_micro_batches_add_up_to_one_big_batch():
    gradients = []
    for micro in (2, 16):
        model = tiny_model()
        shake(model, "policy", 2)
        samples = [
            replace(one, reward=float(i % 3)) for i, one in enumerate(write(model, PROMPTS[0], 16, length=6, seed=2))
        ]
        config = CONFIG.model_copy(update={"micro_batch_size": micro, "batch_size": 16, "epochs": 1})
        before = {n: p.detach().clone() for n, p in model.named_parameters() if ".policy." in n}
        train(model, samples, config, banned=BANNED)
        gradients.append([(p.detach() - before[n]) for n, p in model.named_parameters() if ".policy." in n])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=0.05, atol=2e-4)


def test_effective_sample_size():
    assert ess(torch.zeros(10)) == pytest.approx(10)
    assert ess(torch.tensor([0.0] + [-50.0] * 9)) == pytest.approx(1)
    weights = [0.5, 1.0, 1.7]
    assert ess(torch.tensor(weights).log()) == pytest.approx(sum(weights) ** 2 / sum(w * w for w in weights))
    weights = [1.0] * 99 + [10.0]  # an outlier counts as the root of n and no more
    assert ess(torch.tensor([0.0] * 99 + [50.0])) == pytest.approx(sum(weights) ** 2 / sum(w * w for w in weights))
    assert ess(torch.tensor([5000.0, 5000.0])) == pytest.approx(2)


def test_k3_is_unbiased_for_kl():
    p, q = torch.tensor([0.1, 0.2, 0.7]).log(), torch.tensor([0.3, 0.3, 0.4]).log()
    exact = float((q.exp() * (q - p)).sum())  # KL(q || p)
    assert float((q.exp() * k3(p - q)).sum()) == pytest.approx(exact, abs=1e-6)
    assert bool((k3(torch.linspace(-5, 5, 101)) >= 0).all())


def test_weights_are_per_sequence_until_they_are_too_uneven():
    behaviour = torch.full((4, 3), -2.0)
    near = behaviour + torch.tensor([[0.1], [-0.1], [0.0], [0.4]])
    weight, level = importance_weights(near, behaviour, 2.0)
    assert level == "sequence"
    assert weight[:, 0].tolist() == pytest.approx([math.exp(0.3), math.exp(-0.3), 1.0, 2.0])
    assert bool((weight == weight[:, :1]).all())
    far = behaviour + torch.tensor([[3.0], [-2.0], [-2.0], [-2.0]])
    weight, level = importance_weights(far, behaviour, 2.0)
    assert level == "token"
    assert weight[0].tolist() == [2.0, 2.0, 2.0]
    assert weight[1:].flatten().tolist() == pytest.approx([math.exp(-2)] * 9)


def test_bad_outputs_weigh_at_most_one():
    model = tiny_model()
    samples = write(model, PROMPTS[0], 24, seed=3)
    shake(model, "policy", 9, size=0.05)
    samples = [replace(one, author="old", reward=float(i % 2)) for i, one in enumerate(samples)]
    data = prepare(model, samples, CONFIG, BANNED)
    bad = data.advantage[:, 0] < 0
    assert 0 < int(bad.sum()) < len(samples)
    assert float(data.weight[bad].max()) <= 1.0
    assert float(data.weight[~bad].max()) > 1.0


def test_advantages_are_whitened_and_never_see_their_own_reward():
    draw = np.random.default_rng(0)
    features = draw.normal(size=(200, 12))
    rewards = 2 * features[:, 0] + draw.normal(size=200)
    samples = [sample([1], [2], reward=r, features=x) for r, x in zip(rewards, features, strict=True)]
    values, explained = advantages(samples)
    assert values.mean() == pytest.approx(0, abs=1e-9)
    assert values.std() == pytest.approx(1, abs=1e-6)
    assert explained == pytest.approx(0.8, abs=0.06)
    noise = [replace(one, reward=r) for one, r in zip(samples, draw.normal(size=200), strict=True)]
    assert advantages(noise)[1] < 0.05  # an in-sample fit of noise would explain about 6 %


def test_first_ratio_is_exactly_one():
    model = tiny_model(with_reference=True)
    shake(model, "policy", 4)
    seen = []
    with acting_as(model, policy_stack(model)):
        samples = [replace(one, reward=float(i)) for i, one in enumerate(write(model, PROMPTS[2], 12, seed=5))]
    config = CONFIG.model_copy(update={"batch_size": 16})
    train(model, samples, config, banned=BANNED, report=lambda step, steps, m: seen.append(m))
    assert seen[0]["ppo/ratio_max"] == pytest.approx(1.0, abs=1e-5)
    assert seen[0]["objective/kl_behaviour"] == pytest.approx(0.0, abs=1e-6)
    assert seen[0]["data/rescore_gap"] == pytest.approx(0.0, abs=1e-3)


def test_reference_and_base_stay_as_they_were():
    model = tiny_model(with_reference=True)
    samples = [replace(one, reward=float(i % 4)) for i, one in enumerate(write(model, PROMPTS[1], 32, seed=6))]
    with acting_as(model, policy_stack(model)):
        samples = [replace(one, reward=float(i % 4)) for i, one in enumerate(write(model, PROMPTS[1], 32, seed=6))]
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    train(model, samples, CONFIG, banned=BANNED)
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed
    assert all(".policy." in name for name in changed)


def likes(one, draw: np.random.Generator | None = None) -> float:
    """A taste: each liked token in an output doubles as one expected like. Without `draw`, the truth."""
    expected = 0.5 + sum(token in LIKED for token in one.output_ids) / 2
    return float(draw.poisson(expected)) if draw is not None else expected


def true_value(model) -> float:
    with acting_as(model, policy_stack(model)):
        return float(np.mean([likes(one) for prompt in PROMPTS for one in write(model, prompt, 200, seed=77)]))


def round_of(model, seed: int, n: int = 40, author: str = "policy") -> list:
    draw = np.random.default_rng(seed)
    with acting_as(model, policy_stack(model)):
        posts = [one for k, prompt in enumerate(PROMPTS) for one in write(model, prompt, n, seed=100 * seed + k)]
    return [replace(one, reward=likes(one, draw), author=author) for one in posts]


EVERY_LAYER = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def learn(shuffled: bool, seed: int) -> float:
    """The lift in truth after four rounds of 240 posts."""
    model = tiny_model(targets=EVERY_LAYER)
    start = true_value(model)
    for turn in range(4):
        posts = round_of(model, 10 * seed + turn, n=60)
        if shuffled:
            rewards = np.random.default_rng(seed).permutation([one.reward for one in posts])
            posts = [replace(one, reward=float(r)) for one, r in zip(posts, rewards, strict=True)]
        assert train(model, posts, CONFIG, banned=BANNED, seed=turn).steps > 0
    return true_value(model) / start - 1


def test_a_bandit_with_poisson_likes_is_learnt_and_shuffled_likes_are_not():
    trained = [learn(shuffled=False, seed=seed) for seed in range(2)]
    control = [learn(shuffled=True, seed=seed) for seed in range(2)]
    assert min(trained) > 0.08
    assert abs(float(np.mean(control))) < 0.08
    assert min(trained) > max(control)


def test_reused_posts_improve_or_stop_but_never_collapse():
    """The same posts over and over, at a reckless rate: the run must end by its rule, near where it began."""
    model = tiny_model()
    posts = round_of(model, 5, author="old")
    start, reasons = true_value(model), []
    reckless = CONFIG.model_copy(update={"learning_rate": 0.02, "epochs": 4, "kl_coefficient": 0.0})
    for turn in range(12):
        outcome = train(model, posts, reckless, banned=BANNED, seed=turn)
        if outcome.stopped:
            reasons.append(outcome.stopped)
    assert reasons
    assert any("nats" in reason or "effective" in reason for reason in reasons)
    assert true_value(model) > 0.9 * start
    with acting_as(model, policy_stack(model)):
        now = score(model, posts, BANNED, micro_batches(posts, 8))
    moved = [float(row.sum()) - sum(one.behaviour_logprobs) for row, one in zip(now, posts, strict=True)]
    assert -float(np.mean(moved)) < 2 * reckless.target_kl  # KL(μ ‖ π)


def test_stop_rules():
    assert stop_reason(torch.zeros(50), 0.1, CONFIG) is None
    assert "effective sample size" in stop_reason(torch.tensor([3.0] * 2 + [-4.0] * 48), 0.1, CONFIG)
    assert "nats" in stop_reason(torch.zeros(50), 2.5, CONFIG)


def test_stale_posts_make_no_step():
    model = tiny_model()
    posts = round_of(model, 1, author="old")
    shake(model, "policy", 3, size=0.6)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    outcome = train(model, posts, CONFIG, banned=BANNED)
    assert outcome.steps == 0
    assert outcome.stopped
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())


def test_the_step_that_goes_too_far_is_taken_back():
    model = tiny_model()
    posts = round_of(model, 2)
    wild = CONFIG.model_copy(update={"learning_rate": 0.5, "target_kl": 0.5})
    outcome = train(model, posts, wild, banned=BANNED)
    assert outcome.stopped
    assert outcome.steps == 0
    assert outcome.metrics["objective/kl"] == pytest.approx(0.0, abs=1e-4)  # of what is left, not of what was undone
    fresh = tiny_model()
    one = sample(PROMPTS[0], [4, 5])
    assert slow_logprobs(model, one) == pytest.approx(slow_logprobs(fresh, one), abs=1e-4)


def test_drafts_that_their_checkpoint_did_not_write_are_refused():
    model = tiny_model()
    honest = round_of(model, 3)
    posts = [replace(one, behaviour_logprobs=tuple(x - 2 for x in one.behaviour_logprobs)) for one in honest]
    with pytest.raises(TrainingError, match="was the model"):
        train(model, [one for one in posts if len(one.output_ids) > 1], CONFIG, banned=BANNED)
    outcome = train(model, honest + posts[:5], CONFIG, banned=BANNED)
    assert outcome.metrics["data/mismatched"] >= 1
    assert outcome.metrics["data/samples"] <= len(honest) + 4


def test_loss_that_is_not_finite_is_an_error():
    model = tiny_model()
    posts = round_of(model, 4)
    broken = [replace(one, reward=float("nan")) if i == 0 else one for i, one in enumerate(posts)]
    with pytest.raises((TrainingError, ValueError)):
        train(model, broken, CONFIG, banned=BANNED)
    assert CONFIG.min_ess < SEQUENCE_ESS
    assert END not in BANNED


def drafts(step: list[MicroBatch]) -> int:
    return sum(len(batch.members) for batch in step)


@pytest.mark.parametrize(("size", "count"), [(4, 2), (3, 3), (1, 5), (100, 1)])
def test_every_epoch_uses_each_micro_batch_once_in_steps_of_like_sizes(size, count):
    batches = [MicroBatch(members, 0) for members in ([0, 1, 2], [3], [4, 5], [6, 7, 8], [9])]
    steps = list(_steps(batches, 2, size, seed=3))
    taken = [batch for step in steps for batch in step]
    assert sorted(taken[:5]) == sorted(taken[5:]) == sorted(batches)
    if size > 1:  # no micro-batch is larger than a step
        assert len(steps) == 2 * count
        assert all(abs(drafts(step) - 10 / count) < 3 for step in steps)
    assert all(steps)
    assert taken != [batch for step in _steps(batches, 2, size, seed=4) for batch in step]


def test_what_is_left_over_is_no_step_of_its_own():
    equal = [MicroBatch([*range(at, at + 8)], 0) for at in range(0, 72, 8)]
    assert [drafts(step) for step in _steps(equal, 1, 32, seed=0)] == [40, 32]
