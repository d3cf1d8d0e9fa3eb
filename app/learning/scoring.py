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
from app.learning.samples import POLICY, REFERENCE, Sample
from app.policy import shared_attention
from app.policy.prefixes import MIN_SHARED, alike, common_prefix

# Of one forward pass, padding included and the shared prefix not. What is kept for the way back is some 1.5 MB a token
# with SmolLM2-135M; a batch of sixteen long conversations took 6 GB.
MAX_TOKENS = 1536
# On a GPU: 6,400 tokens of the shape of SmolLM2-360M took 10 GB in all; a
# pass takes 0.1 s each way to start its kernels.
MAX_GPU_TOKENS = 8192
CPU = torch.device("cpu")
# A mask of four dimensions, because transformers would make one of [tokens, tokens] if it were given none.
UNREAD = torch.empty(1, 1, 1, 1)


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


def micro_batches(samples: Sequence[Sample], size: int, device: torch.device = CPU) -> list[list[int]]:
    """Indices of the samples, in batches of one author, of prompts that begin alike, and of like lengths.

    No batch has more than `size` samples, nor, if it has two, more tokens of their own than a pass on such a device is
    to have. The batches are the same in every pass: a batch of another shape rounds otherwise, and bf16 rounding adds
    up to tenths of a nat over a post (TRL issue 6789).
    """
    most = MAX_GPU_TOKENS if device.type == "cuda" else MAX_TOKENS
    batches: list[list[int]] = []
    for author in sorted({sample.author for sample in samples}):
        own = [i for i, sample in enumerate(samples) if sample.author == author]
        for group in alike([samples[i].prompt_ids for i in own]):
            members = [own[i] for i in group]
            shared = common_prefix([samples[i].prompt_ids for i in members]) if len(members) > 1 else 0
            lengths = {i: len(samples[i].prompt_ids) + len(samples[i].output_ids) - shared for i in members}
            batch: list[int] = []
            for i in sorted(members, key=lambda i: (lengths[i], i)):
                if batch and (len(batch) == size or (len(batch) + 1) * lengths[i] > most):
                    batches.append(batch)
                    batch = []
                batch.append(i)
            batches.append(batch)
    return batches


def output_logprobs(model: Any, batch: Sequence[Sample], banned: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of each output token of a batch, and which of them are real.

    Args:
        model: a PEFT model; whichever adapters are active take part.
        banned: ids of tokens that sampling masks, so that they have no probability here either.

    Returns:
        float32 of shape [batch, longest output], 0 where there is no token, and a mask of the same shape.
    """
    device = banned.device
    lengths = [len(sample.output_ids) for sample in batch]
    mask = torch.arange(max(lengths), device=device)[None] < torch.tensor(lengths, device=device)[:, None]
    temperatures = torch.tensor([s.temperature for s in batch for _ in s.output_ids], device=device)
    states = _predicting_states(model, batch, device).float() / temperatures[:, None]
    targets = torch.tensor([token for sample in batch for token in sample.output_ids], device=device)
    flat = target_logprobs(model, states, targets, banned)
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
    batches: Sequence[Sequence[int]],
) -> list[Tensor]:
    """Log-probabilities of each sample's output tokens under the active adapters; one tensor per sample, in order."""
    found: list[Tensor] = [torch.empty(0)] * len(samples)
    for batch in batches:
        logprobs, _ = output_logprobs(model, [samples[i] for i in batch], banned)
        for row, i in enumerate(batch):
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
    def forward(ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, banned: Tensor) -> Tensor:
        """Shapes: hidden [rows, width], head [vocabulary, width], targets [rows]; returns [rows]."""
        logits = (hidden @ head.T).index_fill_(1, banned, -torch.inf)
        chosen = logits.gather(1, targets[:, None])[:, 0]
        highest = logits.amax(1, keepdim=True)
        odds = logits.sub_(highest).exp_()
        total = odds.sum(1)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(head[targets] - (odds @ head) / total[:, None])
        found: Tensor = chosen - highest[:, 0] - total.log()
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (by_hidden,) = ctx.saved_tensors
        return gradient[:, None] * by_hidden, None, None, None


def _predicting_states(model: Any, batch: Sequence[Sample], device: torch.device) -> Tensor:
    """Last hidden states at the positions that predict an output token, of shape [all output tokens, width].

    What all prompts begin with (the persona) is read once for the whole batch, in the same pass. Padding is on the
    right, where a causal model cannot see it, so that no mask is needed and positions are plain.
    """
    base = _base(model)
    if base.config._attn_implementation != shared_attention.NAME:
        base.set_attn_implementation(shared_attention.NAME)  # any other would copy the prefix for every row
    shared = common_prefix([sample.prompt_ids for sample in batch]) if len(batch) > 1 else 0
    shared = shared if shared >= MIN_SHARED else 0
    # Put together where they are and moved once: a GPU would be waited for at every row.
    rows = [torch.tensor([*s.prompt_ids[shared:], *s.output_ids[:-1]]) for s in batch]
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
    positions = shared + torch.arange(tokens.shape[1], device=device)[None].expand_as(tokens)
    if shared:
        prefix = torch.tensor(batch[0].prompt_ids[:shared], device=device)
        hidden = _read_after(prefix, base.get_decoder(), tokens, positions)
    else:
        hidden = base.get_decoder()(input_ids=tokens, position_ids=positions, use_cache=False).last_hidden_state
    places = [
        row * tokens.shape[1] + len(s.prompt_ids) - shared - 1 + place
        for row, s in enumerate(batch)
        for place in range(len(s.output_ids))
    ]
    return hidden.flatten(0, 1).index_select(0, torch.tensor(places, device=device))


def _read_after(prefix: Tensor, decoder: Any, tokens: Tensor, positions: Tensor) -> Tensor:
    """Last hidden states of rows [rows, longest, width] that come after a prefix [shared], both read in one pass."""
    shared = len(prefix)
    before = torch.arange(shared, device=prefix.device)
    hidden: Tensor = decoder(
        input_ids=torch.cat((prefix, tokens.flatten()))[None],
        position_ids=torch.cat((before, positions.flatten()))[None],
        attention_mask=UNREAD,
        packed=shared_attention.Packed(shared, len(tokens)),
        use_cache=False,
    ).last_hidden_state
    return hidden[0, shared:].view(*tokens.shape, -1)


def _head(model: Any) -> Tensor:
    """The output embedding in float32, converted once per model: it is frozen."""
    weight = _base(model).get_output_embeddings().weight
    kept: tuple[Tensor, Tensor] | None = getattr(model, "_float32_head", None)
    if kept is None or kept[0] is not weight:
        kept = (weight, weight.detach().float())
        model._float32_head = kept
    return kept[1]


def _base(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model
