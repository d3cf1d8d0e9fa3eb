"""PPO over logged posts: a contextual bandit whose actions are texts, learnt from off-policy.

A sample is a prompt x, an output y that a known checkpoint μ wrote, and one reward r that came long after. With
π the policy in training, π_prox the policy that the run starts from and π_ref the frozen reference, each sample adds

    w · min(ρ_t A, clip(ρ_t, 1 − ε, 1 + ε) A) − β · k3_t      summed over its tokens t, to be maximised

    ρ_t   π(y_t) / π_prox(y_t), the ratio that is clipped (Schulman et al. 2017, arXiv 1707.06347)
    w     min(π_prox(y) / μ(y), 2), a constant: corrects for who wrote it (decoupled PPO, Hilton et al. 2021,
          arXiv 2110.00641; the cap as in AReaL, arXiv 2505.24298)
    A     r − V(x), one per sample, with V a ridge on what was known before (app/learning/baseline.py)
    k3_t  exp(d) − 1 − d with d = log π_ref(y_t) − log π(y_t) (Schulman 2020, joschu.net/blog/kl-approx.html)

The loop is that of openai/lm-human-preferences `train_policy.py` and vwxyzjn/cleanrl `ppo.py`, without a rollout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from app.config import PPOConfig
from app.learning.experience import Experience, Metrics, Trained, TrainingError, ess, k3, prepare, stop_reason
from app.learning.forward import MicroBatch, Reader
from app.learning.samples import POLICY, Sample
from app.learning.scoring import acting_as, output_logprobs, policy_stack

Report = Callable[[int, int, Metrics], None]


def train(
    model: Any,
    samples: Sequence[Sample],
    config: PPOConfig,
    *,
    banned: Tensor,
    seed: int = 0,
    report: Report | None = None,
) -> Trained:
    """Move the adapter `policy` of a PEFT model by what the samples earned.

    Args:
        model: the base with adapter `policy`, and `reference` under it where the reference is not the base itself.
        banned: ids that sampling masks, on the model's device.
        report: called after every optimiser step with the step, the steps planned and its metrics.

    Raises:
        TrainingError: no sample can be used, or the loss is not finite.
    """
    data = prepare(model, samples, config, banned)
    if data.stale is not None:
        return Trained(0, data.stale, data.facts)
    with acting_as(model, policy_stack(model), trainable=POLICY):
        return _optimise(model, data, config, banned=banned, seed=seed, report=report or _silent)


def _optimise(
    model: Any,
    data: Experience,
    config: PPOConfig,
    *,
    banned: Tensor,
    seed: int,
    report: Report,
) -> Trained:
    parameters = [p for p in model.parameters() if p.requires_grad]
    # eps 1e-5 as in openai/baselines and cleanrl; no weight decay: the KL term is what holds the policy.
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, eps=1e-5, weight_decay=0.0)
    ratios = (data.proximal - data.behaviour).sum(1)  # log π/μ of each sequence, as of its last forward pass
    planned = list(_steps(data.batches, config.epochs, config.batch_size, seed))
    step, metrics, before = 0, dict(data.facts), [p.detach().clone() for p in parameters]
    for chunk in planned:
        optimizer.zero_grad(set_to_none=True)
        reader, of = Reader(model), sum(len(batch.members) for batch in chunk)
        stats = [_backward(reader, data, batch, config, banned=banned, ratios=ratios, of=of) for batch in chunk]
        reader.backward()
        measured = dict(data.facts) | _averaged(stats) | {"ppo/ess": ess(ratios) / len(ratios)}
        reason = stop_reason(ratios, measured["objective/kl_behaviour"], config)
        if reason is not None:
            # The last step is what went too far, and it is only seen now: take it back. `metrics` are still of before.
            for parameter, old in zip(parameters, before, strict=True):
                parameter.data.copy_(old)
            return Trained(max(step - 1, 0), reason, metrics)
        metrics = measured
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm))
        if not math.isfinite(norm + metrics["ppo/loss"]):
            raise TrainingError(f"step {step + 1} has loss {metrics['ppo/loss']} and gradient norm {norm}")
        before = [p.detach().clone() for p in parameters]
        optimizer.step()
        step += 1
        metrics |= {"ppo/grad_norm": norm, "ppo/learning_rate": config.learning_rate}
        report(step, len(planned), metrics)
    return Trained(step, None, metrics)


def _backward(
    reader: Reader,
    data: Experience,
    batch: MicroBatch,
    config: PPOConfig,
    *,
    banned: Tensor,
    ratios: Tensor,
    of: int,
) -> Metrics:
    """Add the gradient of a micro-batch of a step `of` so many samples, renew its ratios, and return its statistics."""
    # Dropout stays off (the model is in eval mode), so that ρ is 1 where nothing has been learnt yet.
    members = batch.members
    logprobs, mask = output_logprobs(reader, [data.samples[i] for i in members], batch.shared, banned)
    width = logprobs.shape[1]
    loss, metrics = policy_loss(
        logprobs,
        data.proximal[members, :width],
        data.reference[members, :width],
        mask=mask,
        weight=data.weight[members, :width],
        advantage=data.advantage[members],
        config=config,
        # A constant, not each sample's own length, or short outputs would count for more (Dr. GRPO, 2503.20783).
        scale=of * data.facts["data/output_tokens"],
    )
    loss.backward()  # type: ignore[no-untyped-call]
    difference = logprobs.detach() - data.behaviour[members, :width]
    ratios[members] = difference.sum(1)
    return metrics | {
        "samples": float(len(members)),
        "ppo/loss": float(loss.detach()) * of / len(members),
        "objective/kl_behaviour": float(k3(difference).sum(1).mean()),
    }


def _silent(step: int, steps: int, metrics: Metrics) -> None:
    """The report of a caller who wants none."""


def policy_loss(
    logprobs: Tensor,
    proximal: Tensor,
    reference: Tensor,
    *,
    mask: Tensor,
    weight: Tensor,
    advantage: Tensor,
    config: PPOConfig,
    scale: float,
) -> tuple[Tensor, Metrics]:
    """The loss of a micro-batch and its statistics. Matrices are [batch, tokens], `advantage` is [batch, 1].

    `scale` divides the sum over tokens, so that micro-batches of one step add up to that step's mean.
    """
    ratio = torch.exp(logprobs - proximal)
    unclipped = ratio * advantage
    clipped = ratio.clamp(1 - config.clip, 1 + config.clip) * advantage
    surrogate = weight * torch.minimum(unclipped, clipped)
    to_reference = k3(reference - logprobs)
    loss = -((surrogate - config.kl_coefficient * to_reference) * mask).sum() / scale
    with torch.no_grad():
        tokens = mask.sum()
        metrics = {
            "ppo/policy_loss": float(-(surrogate * mask).sum() / tokens),
            "ppo/clip_fraction": float(((clipped < unclipped) & mask).sum() / tokens),
            "ppo/approx_kl": float((k3(logprobs - proximal) * mask).sum() / tokens),
            "ppo/ratio_max": float(torch.where(mask, ratio, 0.0).max()),
            "objective/kl": float((to_reference * mask).sum(1).mean()),
            "objective/entropy": float(-(logprobs * mask).sum() / tokens),
        }
    return loss, metrics


def _steps(batches: list[MicroBatch], epochs: int, size: int, seed: int) -> Iterator[list[MicroBatch]]:
    """The micro-batches of each optimiser step, shuffled anew every epoch, in steps of some `size` samples.

    An epoch is cut into steps of about equal size. A last step of what is left over would move the policy as far as any
    other, because Adam scales by the gradient's own size, and on the noise of a few samples.
    """
    generator = torch.Generator().manual_seed(seed)
    total = sum(len(batch.members) for batch in batches)
    steps = max(1, round(total / size))
    for _ in range(epochs):
        step: list[MicroBatch] = []
        taken = ended = 0
        for at in torch.randperm(len(batches), generator=generator).tolist():
            step.append(batches[at])
            taken += len(batches[at].members)
            if taken * steps // total > ended:
                yield step
                step, ended = [], taken * steps // total


def _averaged(stats: list[Metrics]) -> Metrics:
    """Means over the micro-batches of a step, by their numbers of samples; the largest of a maximum."""
    n = sum(part["samples"] for part in stats)
    means = {name: sum(part[name] * part["samples"] for part in stats) / n for name in stats[0] if name != "samples"}
    return means | {"ppo/ratio_max": max(part["ppo/ratio_max"] for part in stats)}
