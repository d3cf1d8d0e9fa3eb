"""How likely a model thinks given outputs are: log-probabilities of whole batches, with and without gradient.

One base model is in memory. Adapters named `reference` and `policy` lie on it; which of them take part in a forward
pass is a property of the model, so a model is scored by one thread at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from app.learning.features import Array
from app.learning.forward import MicroBatch, Reader, base_of
from app.learning.samples import POLICY, REFERENCE, Sample
from app.policy.packed_weights import Head, pays


def policy_stack(model: Any) -> list[str]:
    """Adapters of the policy: its own on top of the reference's, where there is one."""
    return [name for name in (REFERENCE, POLICY) if name in model.peft_config]


def reference_stack(model: Any) -> list[str]:
    """Adapters of the frozen reference; none means the base model itself."""
    return [name for name in (REFERENCE,) if name in model.peft_config]


def is_untouched(model: Any) -> bool:
    """Whether the policy adapter is as new: its B matrices are zero, and the policy is the reference."""
    return not any(bool(p.any()) for name, p in model.named_parameters() if f".lora_B.{POLICY}." in name)


@contextmanager
def acting_as(model: Any, stack: Sequence[str], *, trainable: str | None = None) -> Iterator[None]:
    """Run a block with exactly these adapters taking part, and only `trainable` receiving gradients.

    `disable_adapter` alone would give the base model even where the reference is an adapter.
    """
    if stack:
        # inference_mode: set_adapter would otherwise thaw every adapter it activates, the reference too.
        model.base_model.set_adapter(list(stack), inference_mode=True)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trainable is not None and f".{trainable}." in name)
    if stack:
        yield
    else:
        with model.disable_adapter():
            yield


def output_logprobs(reader: Reader, samples: Sequence[Sample], shared: int, banned: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of each output token of a micro-batch, and which of them are real.

    Args:
        reader: of a PEFT model; whichever adapters are active take part.
        shared: see `MicroBatch`.
        banned: ids of tokens that sampling masks, so that they have no probability here either.

    Returns:
        float32 of shape [batch, longest output], 0 where there is no token, and a mask of the same shape.
    """
    device = banned.device
    lengths = [len(sample.output_ids) for sample in samples]
    mask = torch.arange(max(lengths), device=device)[None] < torch.tensor(lengths, device=device)[:, None]
    temperatures = torch.tensor([s.temperature for s in samples for _ in s.output_ids], device=device)
    states = reader.predicting_states(samples, shared).float() / temperatures[:, None]
    targets = torch.tensor([token for sample in samples for token in sample.output_ids], device=device)
    flat = target_logprobs(reader.model, states, targets, banned)
    return torch.zeros(mask.shape, device=device).masked_scatter(mask, flat), mask


def target_logprobs(model: Any, states: Tensor, targets: Tensor, banned: Tensor) -> Tensor:
    """Log-probabilities, float32 [rows], of one token after each state; with a gradient by the states alone.

    Args:
        states: last hidden states at the positions that predict the tokens, float32 [rows, width].
        targets: int64 [rows].
        banned: as in `output_logprobs`.
    """
    found: Tensor = _TargetLogprobs.apply(states, _head(model), targets, banned)  # type: ignore[no-untyped-call]
    return found


@torch.no_grad()
def score(
    model: Any,
    samples: Sequence[Sample],
    banned: Tensor,
    batches: Sequence[MicroBatch],
) -> list[Tensor]:
    """Log-probabilities of each sample's output tokens under the active adapters; one tensor per sample, in order."""
    found: list[Tensor] = [torch.empty(0)] * len(samples)
    reader = Reader(model)
    for batch in batches:
        logprobs, _ = output_logprobs(reader, [samples[i] for i in batch.members], batch.shared, banned)
        for row, i in enumerate(batch.members):
            found[i] = logprobs[row, : len(samples[i].output_ids)]
    return found


def padded(rows: Sequence[Tensor]) -> Tensor:
    """Rows of unequal length as one matrix, filled with 0."""
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)


def as_tensor(values: Sequence[float] | Array) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


class _TargetLogprobs(torch.autograd.Function):
    """Head, softmax and choice of the target in one, for a frozen head: log softmax(h Wᵀ) at one token per row.

    Its gradient by h is W[target] − softmax(h Wᵀ) W, as wide as h. That is all that is kept for the way back, where
    autograd would keep several matrices of [rows, vocabulary]: 70 MB each for 360 tokens of SmolLM2. In float32:
    bfloat16 logits are spaced by up to 0.125, as coarse as the clip range (MiniMax-M1, arXiv 2506.13585, section 3.2).
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Head, targets: Tensor, banned: Tensor) -> Tensor:
        """Shapes: hidden [rows, width], targets [rows]; returns [rows]."""
        logits = head(hidden).index_fill_(1, banned, -torch.inf)
        chosen = logits.gather(1, targets[:, None])[:, 0]
        highest = logits.amax(1, keepdim=True)
        odds = logits.sub_(highest).exp_()
        total = odds.sum(1)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(head.weight[targets] - (odds @ head.weight) / total[:, None])
        found: Tensor = chosen - highest[:, 0] - total.log()
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (by_hidden,) = ctx.saved_tensors
        return gradient[:, None] * by_hidden, None, None, None


def _head(model: Any) -> Head:
    """The output embedding in float32, converted once per model: it is frozen.

    Where bfloat16 is packed for oneDNN, so is this: its product took 185 ms for 540 rows and MKL's 290, on an AMD EPYC.
    """
    weight = base_of(model).get_output_embeddings().weight
    kept: tuple[Tensor, Head] | None = getattr(model, "_float32_head", None)
    if kept is None or kept[0] is not weight:
        kept = (weight, Head(weight.detach().float(), packed=pays(weight)))
        model._float32_head = kept
    return kept[1]
