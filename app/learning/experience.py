"""What a run learns from: logged samples, scored once, weighted and compared with their baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from app.config import PPOConfig
from app.learning import offpolicy
from app.learning.baseline import cross_fitted
from app.learning.features import Array
from app.learning.forward import MicroBatch, micro_batches
from app.learning.samples import POLICY, REFERENCE, Sample
from app.learning.scoring import (
    acting_as,
    as_tensor,
    is_untouched,
    padded,
    policy_stack,
    reference_stack,
    score,
)

Metrics = dict[str, float]

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
class Experience:
    """What stays the same over a run, a row per sample; token matrices are filled with 0."""

    samples: list[Sample]
    behaviour: Tensor
    proximal: Tensor
    reference: Tensor
    weight: Tensor  # [n, 1] at sequence level, [n, tokens] at token level
    advantage: Tensor  # [n, 1]
    batches: list[MicroBatch]
    facts: Metrics
    stale: str | None = None  # why none of it can be learnt from, if so; the rest is then empty


def prepare(model: Any, samples: Sequence[Sample], config: PPOConfig, banned: Tensor) -> Experience:
    """Score everything once: reference, proximal and behaviour log-probabilities, weights and advantages.

    Raises:
        TrainingError: no sample is as likely as it was when it was written.
    """
    batches = micro_batches(samples, config.micro_batch_size, banned.device)
    with acting_as(model, reference_stack(model)):
        reference = score(model, samples, banned, batches)
    proximal = reference
    if not is_untouched(model):
        with acting_as(model, policy_stack(model)):
            proximal = score(model, samples, banned, batches)
    # Rescored with the trainer's numerics: what wrote a sample is often one of the two just scored.
    own = {POLICY: proximal, REFERENCE: reference}
    logged = [as_tensor(sample.behaviour_logprobs).to(banned.device) for sample in samples]
    others = [as_tensor(s.rescored).to(banned.device) if s.rescored else logged[i] for i, s in enumerate(samples)]
    behaviour = [own.get(s.author, others)[i] for i, s in enumerate(samples)]
    sound, gap = _as_likely_as_logged(behaviour, logged)
    kept, stale = _near_enough(samples, sound, proximal, behaviour, config)
    facts = {
        "data/samples": float(len(kept)),
        "data/mismatched": float(len(samples) - len(sound)),
        "data/stale": float(len(sound) - len(kept)),
        "data/rescore_gap": gap,
    }
    chosen = [samples[i] for i in kept]
    if not kept:
        nothing = torch.empty(0)
        return Experience([], nothing, nothing, nothing, nothing, nothing, [], facts, stale)
    mu, prox, ref = (padded([rows[i] for i in kept]) for rows in (behaviour, proximal, reference))
    weight, level = importance_weights(prox, mu, config.max_behaviour_weight)
    values, explained = advantages(chosen)
    advantage = as_tensor(values).to(mu.device)[:, None]
    # TOPR (arXiv 2503.14286): a bad output is unlearnt by at most its own weight, or the gradient has no floor.
    weight = torch.where(advantage < 0, weight.clamp(max=1.0), weight)
    facts |= {
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
    again = micro_batches(chosen, config.micro_batch_size, banned.device) if len(kept) < len(samples) else batches
    return Experience(chosen, mu, prox, ref, weight, advantage, again, facts)


def _as_likely_as_logged(scored: Sequence[Tensor], logged: Sequence[Tensor]) -> tuple[list[int], float]:
    """Which samples the checkpoint that they name can have written, and the mean gap of those in nats."""
    gaps = torch.stack([(a - b).sum().abs() for a, b in zip(scored, logged, strict=True)])
    sound = [i for i, row in enumerate(scored) if float(gaps[i]) <= MAX_GAP and bool(row.isfinite().all())]
    if not sound:
        raise TrainingError(
            f"none of {len(scored)} drafts is as likely under the checkpoint it names as when it was sampled "
            f"(median gap {float(gaps.median()):.1f} nats): was the model, its tokenizer or the mask changed?"
        )
    return sound, float(gaps[sound].mean())


def _near_enough(
    samples: Sequence[Sample], sound: list[int], proximal: list[Tensor], behaviour: list[Tensor], config: PPOConfig
) -> tuple[list[int], str | None]:
    """Samples of those authors that the policy is still near to, and why the last of the others is not."""
    kept, reason = [], None
    for author in sorted({samples[i].author for i in sound}):
        group = [i for i in sound if samples[i].author == author]
        differences = [proximal[i] - behaviour[i] for i in group]
        kl = float(torch.stack([k3(row).sum() for row in differences]).mean())
        far = stop_reason(torch.stack([row.sum() for row in differences]), kl, config)
        reason = far or reason
        kept += [] if far else group
    return sorted(kept), reason


def importance_weights(proximal: Tensor, behaviour: Tensor, cap: float) -> tuple[Tensor, str]:
    """min(π_prox / μ, cap) per sequence while those weights are even enough, else per token; and the level."""
    difference = proximal - behaviour
    sequences = difference.sum(1)
    if ess(sequences) >= SEQUENCE_ESS * len(sequences):
        return sequences.exp().clamp(max=cap)[:, None].expand_as(difference), "sequence"
    return difference.exp().clamp(max=cap), "token"


def advantages(samples: Sequence[Sample]) -> tuple[Array, float]:
    """r − V(x), whitened (Huang et al. 2022, "37 implementation details of PPO"), and V's explained variance."""
    rewards = np.array([sample.reward for sample in samples])
    raw = rewards - cross_fitted(np.stack([sample.features for sample in samples]), rewards)
    explained = 1 - float(raw.var() / rewards.var()) if rewards.var() > 0 else 0.0
    return (raw - raw.mean()) / (raw.std() + 1e-8), explained


def k3(difference: Tensor) -> Tensor:
    """Schulman's k3 of a token: exp(d) − 1 − d for d = log p − log q is an unbiased KL(q ‖ p) where q sampled."""
    return torch.expm1(difference) - difference


def ess(log_ratios: Tensor) -> float:
    return offpolicy.ess(log_ratios.double().cpu().numpy())


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
