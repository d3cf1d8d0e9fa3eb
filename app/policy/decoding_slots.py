"""What a captured step of sampling reads and writes, in tensors that stay where they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from app.policy import flash
from app.policy.flash import Parts
from app.policy.llama_step import LlamaStep

STEP = 128  # tokens; lengths of the cache, and of what is attended to, are multiples of it


Outputs = list[list[tuple[int, float]]]  # of each text its (token, log-probability) pairs
# Log-probabilities of hidden states at a temperature; a token of each row of these, by uniforms.
Policy = Callable[[Tensor, float | Tensor], Tensor]
Draw = Callable[[Tensor, Tensor], Tensor]


class Shape(NamedTuple):
    """What a captured step is fixed to: slots at work, whether there is a prefix, own tokens that it can see."""

    width: int
    prefix: bool
    length: int


@dataclass(frozen=True)
class Prompts:
    """A batch that has been read.

    Attributes:
        state: the last hidden state of each row, [rows, width].
        cache: keys and values of the rows' own tokens, padded on the right.
        used: int64 [rows], how many tokens of its own each row has in the cache.
        prefix: keys and values of the tokens that come before all rows; None where there are none.
        shared: how many these are.
    """

    state: Tensor
    cache: Any
    used: Tensor
    prefix: Any
    shared: int


class Slots:
    """The cache, and of each slot the text that it works on.

    Attributes:
        sizes: slots, own tokens of each, tokens of the prefix, columns of the outputs.
        keys, values: of each layer [slots · own tokens, kv heads, head width], slot after slot.
        used: int32 [slots], own tokens in the cache; `shared`: int32 [1], tokens in the prefix.
        tokens: int64 [slots], drawn last. `ended`: bool [slots]. `texts`: int64 [slots], a row of the outputs.
        column: int64 [1], of the outputs, to be written next.
        outputs, logprobs, uniforms: [slots + 1, columns]; the last row is of no text.
    """

    def __init__(self, step: LlamaStep, sizes: tuple[int, int, int, int], like: Tensor) -> None:
        slots, own, before, columns = self.sizes = sizes
        device = like.device

        def integers(*values: int, of: torch.dtype = torch.int32) -> Tensor:
            return torch.tensor(values, dtype=of, device=device)

        # Zeros: what lies in a slot without a text is computed with, and must be finite.
        heads = step.kv_heads, step.head_width
        self.keys, self.values = torch.zeros(2, step.layers, slots * own, *heads, dtype=like.dtype, device=device)
        self.prefix_keys, self.prefix_values = torch.zeros(
            2, step.layers, before, *heads, dtype=like.dtype, device=device
        )
        self.row_starts = torch.arange(slots + 1, dtype=torch.int32, device=device)
        self.key_starts = self.row_starts * own
        self.prefix_starts = integers(0, before)
        self.places = torch.arange(own, dtype=torch.int32, device=device)
        self.used, self.shared = torch.zeros(slots, dtype=torch.int32, device=device), integers(0)
        self.tokens, self.texts = torch.zeros(2, slots, dtype=torch.int64, device=device)
        self.ended = torch.zeros(slots, dtype=torch.bool, device=device)
        self.column = integers(0, of=torch.int64)
        self.temperature = torch.ones((), device=device)
        self.outputs = torch.zeros(slots + 1, columns, dtype=torch.int64, device=device)
        self.logprobs = torch.zeros(slots + 1, columns, device=device)
        self.uniforms = torch.zeros(slots + 1, columns, dtype=torch.float64, device=device)
        self.masked = self._has_masked(step.heads)

    def _has_masked(self, heads: int) -> bool:
        shape = Shape(self.sizes[0], False, self.sizes[1])
        query = self.keys.new_empty(self.sizes[0], heads, self.keys.shape[-1])
        return flash.has_masked(Parts(query, *(part.transpose(1, 2) for part in self.by_slot(0))), self.bias(shape))

    def by_slot(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer, [slots, own tokens, kv heads, head width]."""
        slots, own, *_ = self.sizes
        keys, values = self.keys[layer], self.values[layer]
        return keys.view(slots, own, *keys.shape[1:]), values.view(slots, own, *values.shape[1:])

    def bias(self, shape: Shape) -> Tensor:
        """What is added to the scores of own tokens, [slots, 1, 1, own tokens]."""
        unused = self.places[: shape.length] >= self.used[: shape.width, None]
        bias: Tensor = self.keys.new_zeros(unused.shape).masked_fill_(unused, -torch.inf)
        return bias[:, None, None]

    def hold(self, *needed: int) -> bool:
        """Whether there is room for so many slots, own tokens, tokens of a prefix and columns."""
        return all(have >= need for have, need in zip(self.sizes, needed, strict=True))

    def width_for(self, rows: int) -> int:
        """How many slots work for so many texts."""
        return min(power_of_two(rows), self.sizes[0])

    def load(self, prompts: Prompts, temperature: float, uniforms: Tensor) -> None:
        """Begin with a batch; texts are in the slots of their numbers."""
        rows, columns = uniforms.shape
        slots, length = self.sizes[0], prompts.cache.get_seq_length()
        for layer, read in enumerate(prompts.cache.layers):
            keys, values = self.by_slot(layer)
            keys[:rows, :length] = read.keys.transpose(1, 2)
            values[:rows, :length] = read.values.transpose(1, 2)
            if prompts.prefix is not None:
                before = prompts.prefix.layers[layer]
                self.prefix_keys[layer, : prompts.shared] = before.keys[0].transpose(0, 1)
                self.prefix_values[layer, : prompts.shared] = before.values[0].transpose(0, 1)
        self.used.zero_()[:rows] = prompts.used
        self.shared.fill_(prompts.shared)
        self.texts.fill_(slots)[:rows] = self.row_starts[:rows]
        self.ended.fill_(True)[:rows] = False
        self.column.zero_()
        self.temperature.fill_(temperature)
        self.uniforms[:rows, :columns] = uniforms

    def compact(self, alive: Tensor) -> int:
        """Move the texts of these slots, in ascending order, to the first ones; returns how many slots work now."""
        count, slots = len(alive), self.sizes[0]
        width = self.width_for(count)
        for layer in range(len(self.keys)):
            for part in self.by_slot(layer):
                part[:count] = part[alive]
        for part in (self.used, self.tokens, self.texts, self.ended):
            part[:count] = part[alive]
        self.texts[count:width] = slots
        self.ended[count:width] = True
        return width

    def state(self, width: int) -> tuple[Tensor, ...]:
        """What a step changes and reads again, copied."""
        return tuple(part[:width].clone() for part in (self.used, self.tokens, self.ended, self.column))

    def restore(self, state: tuple[Tensor, ...]) -> None:
        for part, kept in zip((self.used, self.tokens, self.ended, self.column), state, strict=True):
            part[: len(kept)] = kept


def power_of_two(number: int) -> int:
    """The smallest power of two that is not below a positive number."""
    return 1 << (number - 1).bit_length()


def rounded(tokens: int) -> int:
    """The smallest length that the cache may have for so many tokens."""
    return max(STEP, -(-tokens // STEP) * STEP)
