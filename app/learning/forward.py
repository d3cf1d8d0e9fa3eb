"""Forward passes of training and scoring, in micro-batches; what their prompts begin with is read once for many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

from app.learning.samples import Sample
from app.policy import shared_attention
from app.policy.prefixes import MIN_SHARED, alike, common_prefix

# Of one forward pass, padding included and the shared prefix not. What is kept for the way back is some 1.5 MB a token
# with SmolLM2-135M; a batch of sixteen long conversations took 6 GB. Scoring 48 drafts twice took two cores 16.3 s like
# this, 18.0 with 1,024 and 18.4 with 1,536: what a layer makes of more is larger than their cache.
MAX_TOKENS = 768
# On a GPU: 6,400 tokens of the shape of SmolLM2-360M took 10 GB in all; a pass takes 0.1 s each way to start its
# kernels.
MAX_GPU_TOKENS = 8192
CPU = torch.device("cpu")
# A mask of four dimensions, because transformers would make one of [tokens, tokens] if it were given none.
UNREAD = torch.empty(1, 1, 1, 1)


class MicroBatch(NamedTuple):
    """Samples that are read in one pass.

    Attributes:
        members: which of the samples.
        shared: tokens that their prompts begin with, as those of other micro-batches do.
    """

    members: list[int]
    shared: int


def micro_batches(samples: Sequence[Sample], size: int, device: torch.device = CPU) -> list[MicroBatch]:
    """The samples in batches of one author, of prompts that begin alike, and of like lengths.

    No batch has more than `size` samples, nor, if it has two, more tokens of their own than a pass on such a device is
    to have. The batches are the same in every pass: a batch of another shape rounds otherwise, and bf16 rounding adds
    up to tenths of a nat over a post (TRL issue 6789).
    """
    most = MAX_GPU_TOKENS if device.type == "cuda" else MAX_TOKENS
    batches: list[MicroBatch] = []
    for author in sorted({sample.author for sample in samples}):
        own = [i for i, sample in enumerate(samples) if sample.author == author]
        for group in alike([samples[i].prompt_ids for i in own]):
            members = [own[i] for i in group]
            shared = common_prefix([samples[i].prompt_ids for i in members]) if len(members) > 1 else 0
            shared = shared if shared >= MIN_SHARED else 0
            lengths = {i: len(samples[i].prompt_ids) + len(samples[i].output_ids) - shared for i in members}
            batch: list[int] = []
            for i in sorted(members, key=lambda i: (lengths[i], i)):
                if batch and (len(batch) == size or (len(batch) + 1) * lengths[i] > most):
                    batches.append(MicroBatch(batch, shared))
                    batch = []
                batch.append(i)
            batches.append(MicroBatch(batch, shared))
    return batches


class Reader:
    """Reads micro-batches under a model's weights as they are: all of a step's, or of a scoring's.

    On a processor a prefix is read by itself and once, and its keys and values serve every micro-batch that begins with
    it. On a GPU, where passes are dear and tokens cheap, it is read in the same pass as each micro-batch.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._base = base_of(model)
        if self._base.config._attn_implementation != shared_attention.NAME:
            self._base.set_attn_implementation(shared_attention.NAME)  # any other would copy the prefix for every row
        self._prefixes: dict[tuple[int, ...], _Prefix] = {}

    def predicting_states(self, samples: Sequence[Sample], shared: int) -> Tensor:
        """Last hidden states at the positions that predict an output token, of shape [all output tokens, width].

        Padding is on the right, where a causal model cannot see it, so that no mask is needed and positions are plain.
        """
        device = self._base.device
        # Put together where they are and moved once: a GPU would be waited for at every row.
        rows = [torch.tensor([*s.prompt_ids[shared:], *s.output_ids[:-1]]) for s in samples]
        tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
        hidden = self._hidden(tokens, samples[0].prompt_ids[:shared])
        places = [
            row * tokens.shape[1] + len(s.prompt_ids) - shared - 1 + place
            for row, s in enumerate(samples)
            for place in range(len(s.output_ids))
        ]
        return hidden.flatten(0, 1).index_select(0, torch.tensor(places, device=device))

    def backward(self) -> None:
        """Take the gradients that the micro-batches' losses left at the prefixes on to the weights, once for all."""
        for prefix in self._prefixes.values():
            prefix.backward()
        self._prefixes.clear()

    def _hidden(self, tokens: Tensor, prefix: Sequence[int]) -> Tensor:
        """Last hidden states [rows, longest, width] of rows that come after a prefix."""
        positions = len(prefix) + torch.arange(tokens.shape[1], device=tokens.device)[None].expand_as(tokens)
        if prefix and tokens.device.type == "cuda":
            return _read_together(torch.tensor(prefix, device=tokens.device), self._base, tokens, positions)
        hidden: Tensor = self._base.get_decoder()(
            input_ids=tokens,
            position_ids=positions,
            use_cache=False,
            shared_prefix=self._prefix(tuple(prefix)) if prefix else None,
        ).last_hidden_state
        return hidden

    def _prefix(self, tokens: tuple[int, ...]) -> _Prefix:
        if tokens not in self._prefixes:
            self._prefixes[tokens] = _Prefix(self._base, tokens)
        return self._prefixes[tokens]


class _Layer(NamedTuple):
    keys: Tensor
    values: Tensor


class _Prefix:
    """Keys and values of a prefix, cut off from how they were computed until every gradient by them is there.

    Attributes:
        layers: what rows attend to, as `shared_attention.attend` takes it.
    """

    def __init__(self, base: Any, tokens: Sequence[int]) -> None:
        cache: Any = DynamicCache(config=base.config)
        base.get_decoder()(input_ids=torch.tensor([tokens], device=base.device), past_key_values=cache, use_cache=True)
        self._computed = [_Layer(layer.keys, layer.values) for layer in cache.layers]
        self.layers = [_Layer(_leaf(keys), _leaf(values)) for keys, values in self._computed]

    def backward(self) -> None:
        """Take the gradients on to what keys and values were computed from."""
        parts = [pair for layers in zip(self._computed, self.layers, strict=True) for pair in zip(*layers, strict=True)]
        reached = [(computed, leaf.grad) for computed, leaf in parts if leaf.grad is not None]
        torch.autograd.backward([computed for computed, _ in reached], [gradient for _, gradient in reached])


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_(tensor.requires_grad)


def base_of(model: Any) -> Any:
    """The transformers model in a PEFT model, or that model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _read_together(prefix: Tensor, base: Any, tokens: Tensor, positions: Tensor) -> Tensor:
    """Last hidden states of rows [rows, longest, width] that come after a prefix [shared], both read in one pass."""
    shared = len(prefix)
    before = torch.arange(shared, device=prefix.device)
    hidden: Tensor = base.get_decoder()(
        input_ids=torch.cat((prefix, tokens.flatten()))[None],
        position_ids=torch.cat((before, positions.flatten()))[None],
        attention_mask=UNREAD,
        packed=shared_attention.Packed(shared, len(tokens)),
        use_cache=False,
    ).last_hidden_state
    return hidden[0, shared:].view(*tokens.shape, -1)
