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
from dataclasses import dataclass
from typing import Any

import numpy as np
import structlog
import torch
from torch import Tensor

from app.config import PPOConfig
from app.learning.baseline import cross_fitted
from app.learning.features import Array
from app.learning.scoring import (
    POLICY,
    REFERENCE,
    Sample,
    acting_as,
    as_tensor,
    micro_batches,
    output_logprobs,
    padded,
    policy_stack,
    reference_stack,
    score,
)

log = structlog.get_logger()

Metrics = dict[str, float]
Report = Callable[[int, int, Metrics], None]

SEQUENCE_ESS = 0.5  # effective samples per sample below which whole-sequence weights are too uneven to use
MAX_GAP = 3.0  # nats between log-probabilities as sampled and as scored here, over a post; more is no rounding


class TrainingError(RuntimeError):
    """A run that cannot go on. The message says why."""


@dataclass(frozen=True)
class Trained:
    """What a run came to. `stopped` is the rule that ended it early; with no step made there is no candidate."""

    steps: int
    stopped: str | None
    metrics: Metrics


@dataclass(frozen=True)
class Data:
    """What stays the same over a run, a row per sample; token matrices are filled with 0."""

    samples: list[Sample]
    behaviour: Tensor
    proximal: Tensor
    reference: Tensor
    weight: Tensor  # [n, 1] at sequence level, [n, tokens] at token level
    advantage: Tensor  # [n, 1]
    batches: list[list[int]]
    facts: Metrics


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
    start = (data.proximal - data.behaviour).sum(1)
    reason = stop_reason(start, data.facts["objective/kl_behaviour"], config)
    if reason is not None:
        return Trained(0, reason, data.facts)
    with acting_as(model, policy_stack(model), trainable=POLICY):
        return _optimise(model, data, config, banned=banned, seed=seed, report=report or _silent)


def prepare(model: Any, samples: Sequence[Sample], config: PPOConfig, banned: Tensor) -> Data:
    """Score everything once: reference, proximal and behaviour log-probabilities, weights and advantages."""
    batches = micro_batches(samples, config.micro_batch_size)
    with acting_as(model, reference_stack(model)):
        reference = score(model, samples, banned, batches)
    with acting_as(model, policy_stack(model)):
        proximal = score(model, samples, banned, batches)
    # Rescored with the trainer's numerics: what wrote a sample is often one of the two just scored.
    own = {POLICY: proximal, REFERENCE: reference}
    logged = [as_tensor(sample.behaviour_logprobs).to(banned.device) for sample in samples]
    behaviour = [own.get(s.author, logged)[i] for i, s in enumerate(samples)]
    gaps = torch.stack([(a - b).sum().abs() for a, b in zip(behaviour, logged, strict=True)])
    kept = [i for i, gap in enumerate(gaps.tolist()) if gap <= MAX_GAP and behaviour[i].isfinite().all()]
    if not kept:
        raise TrainingError(
            f"none of {len(samples)} drafts is as likely under the checkpoint it names as when it was sampled "
            f"(median gap {float(gaps.median()):.1f} nats): was the model, its tokenizer or the mask changed?"
        )
    chosen = [samples[i] for i in kept]
    mu, prox, ref = (padded([rows[i] for i in kept]) for rows in (behaviour, proximal, reference))
    weight, level = importance_weights(prox, mu, config.max_behaviour_weight)
    advantage, explained = advantages(chosen)
    # TOPR (arXiv 2503.14286): a bad output is unlearnt by at most its own weight, or the gradient has no floor.
    weight = torch.where((as_tensor(advantage).to(mu.device) < 0)[:, None], weight.clamp(max=1.0), weight)
    facts = {
        "data/samples": float(len(kept)),
        "data/dropped": float(len(samples) - len(kept)),
        "data/rescore_gap": float(gaps[kept].mean()),
        "data/reward_mean": float(np.mean([s.reward for s in chosen])),
        "data/reward_sd": float(np.std([s.reward for s in chosen])),
        "data/output_tokens": float(np.mean([len(s.output_ids) for s in chosen])),
        "value/explained_variance": explained,
        "ppo/sequence_level": float(level == "sequence"),
        "ppo/weight_mean": float(weight.mean()),
        "ppo/ess": ess((prox - mu).sum(1)) / len(kept),
        "objective/kl_behaviour": float(k3(prox - mu).sum(1).mean()),
        "objective/kl": float(k3(ref - prox).sum(1).mean()),
    }
    again = micro_batches(chosen, config.micro_batch_size) if len(kept) < len(samples) else batches
    return Data(chosen, mu, prox, ref, weight, as_tensor(advantage).to(mu.device)[:, None], again, facts)


def _optimise(
    model: Any,
    data: Data,
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
    per_step = max(1, config.batch_size // config.micro_batch_size)
    planned = config.epochs * math.ceil(len(data.batches) / per_step)
    step, metrics, before = 0, dict(data.facts), [p.detach().clone() for p in parameters]
    for chunk in _shuffled(data.batches, config.epochs, per_step, seed):
        optimizer.zero_grad(set_to_none=True)
        stats = [
            _backward(model, data, batch, config, banned=banned, ratios=ratios, of=sum(map(len, chunk)))
            for batch in chunk
        ]
        metrics = dict(data.facts) | _averaged(stats) | {"ppo/ess": ess(ratios) / len(ratios)}
        reason = stop_reason(ratios, metrics["objective/kl_behaviour"], config)
        if reason is not None:
            # The last step is what went too far, and it is only seen now: take it back.
            for parameter, old in zip(parameters, before, strict=True):
                parameter.data.copy_(old)
            return Trained(max(step - 1, 0), reason, metrics)
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm))
        if not math.isfinite(norm + metrics["ppo/loss"]):
            raise TrainingError(f"step {step + 1} has loss {metrics['ppo/loss']} and gradient norm {norm}")
        before = [p.detach().clone() for p in parameters]
        optimizer.step()
        step += 1
        metrics |= {"ppo/grad_norm": norm, "ppo/learning_rate": config.learning_rate}
        report(step, planned, metrics)
    return Trained(step, None, metrics)


def _backward(
    model: Any,
    data: Data,
    batch: list[int],
    config: PPOConfig,
    *,
    banned: Tensor,
    ratios: Tensor,
    of: int,
) -> Metrics:
    """Add the gradient of a micro-batch of a step `of` so many samples, renew its ratios, and return its statistics."""
    # Dropout stays off (the model is in eval mode), so that ρ is 1 where nothing has been learnt yet.
    logprobs, mask = output_logprobs(model, [data.samples[i] for i in batch], banned)
    width = logprobs.shape[1]
    loss, metrics = policy_loss(
        logprobs,
        data.proximal[batch, :width],
        data.reference[batch, :width],
        mask=mask,
        weight=data.weight[batch, :width],
        advantage=data.advantage[batch],
        config=config,
        # A constant, not each sample's own length, or short outputs would count for more (Dr. GRPO, 2503.20783).
        scale=of * data.facts["data/output_tokens"],
    )
    loss.backward()  # type: ignore[no-untyped-call]
    difference = logprobs.detach() - data.behaviour[batch, :width]
    ratios[batch] = difference.sum(1)
    return metrics | {
        "samples": float(len(batch)),
        "ppo/loss": float(loss.detach()) * of / len(batch),
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


def k3(difference: Tensor) -> Tensor:
    """Schulman's k3 of a token: exp(d) − 1 − d for d = log p − log q is an unbiased KL(q ‖ p) where q sampled."""
    return torch.expm1(difference) - difference


def importance_weights(proximal: Tensor, behaviour: Tensor, cap: float) -> tuple[Tensor, str]:
    """min(π_prox / μ, cap) per sequence while those weights are even enough, else per token; and the level."""
    difference = proximal - behaviour
    sequences = difference.sum(1)
    if ess(sequences) >= SEQUENCE_ESS * len(sequences):
        return sequences.exp().clamp(max=cap)[:, None].expand_as(difference), "sequence"
    return difference.exp().clamp(max=cap), "token"


def ess(log_ratios: Tensor) -> float:
    """Kish's effective sample size (Σ w)² / Σ w² of ratios π/μ given by their logarithms, from 1 to n.

    Ratios average 1, so one over √n is an outlier: it is cut off there (truncated importance sampling, Ionides
    2008), or a single draft of a hundred would decide.
    """
    logs = log_ratios.double().clamp(max=math.log(len(log_ratios)) / 2)
    weights = torch.exp(logs - logs.max())
    return float(weights.sum() ** 2 / (weights**2).sum())


def advantages(samples: Sequence[Sample]) -> tuple[Array, float]:
    """r − V(x), whitened (Huang et al. 2022, "37 implementation details of PPO"), and V's explained variance."""
    rewards = np.array([sample.reward for sample in samples])
    raw = rewards - cross_fitted(np.stack([sample.features for sample in samples]), rewards)
    explained = 1 - float(raw.var() / rewards.var()) if rewards.var() > 0 else 0.0
    return (raw - raw.mean()) / (raw.std() + 1e-8), explained


def stop_reason(log_ratios: Tensor, kl: float, config: PPOConfig) -> str | None:
    """Why these samples say nothing more about the policy as it is now, or None while they do."""
    effective = ess(log_ratios) / len(log_ratios)
    if effective < config.min_ess:
        return (
            f"the effective sample size is {effective:.2f} of the samples, under {config.min_ess}: fresh posts needed"
        )
    if kl > config.target_kl:
        return f"the policy is {kl:.2f} nats from the one that wrote the posts, over {config.target_kl}"
    return None


def _shuffled(batches: list[list[int]], epochs: int, per_step: int, seed: int) -> Iterator[list[list[int]]]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        order = torch.randperm(len(batches), generator=generator).tolist()
        for start in range(0, len(order), per_step):
            yield [batches[i] for i in order[start : start + per_step]]


def _averaged(stats: list[Metrics]) -> Metrics:
    """Means over the micro-batches of a step, by their numbers of samples; the largest of a maximum."""
    n = sum(part["samples"] for part in stats)
    means = {name: sum(part[name] * part["samples"] for part in stats) / n for name in stats[0] if name != "samples"}
    return means | {"ppo/ratio_max": max(part["ppo/ratio_max"] for part in stats)}
