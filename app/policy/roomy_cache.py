"""Keys and values of a batch with room for the tokens to come.

A `DynamicCache` copies all that it has for every token: with 39 rows of SmolLM2-135M a ninth of a step's time. Those of
transformers that have room are read in full, whatever of it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]  # transformers' has no types
    """One layer's keys and values of several batches as those of one, padded on the right, with room for more.

    Args:
        parts: layers of the batches that were read, which are copied.
        more: tokens that will be written after them.
        times: int64 [rows of all parts], how often each row is wanted.
    """

    def __init__(self, parts: Sequence[Any], more: int, times: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        first, rows = parts[0].keys, int(times.sum())
        length = max(part.get_seq_length() for part in parts)
        self.lazy_initialization(first, first)
        # Zeros: what lies in the padding is computed with, and must be finite.
        self._room = first.new_zeros(2, rows, first.shape[1], length + more, first.shape[3])
        begin = 0
        for part, wanted in zip(parts, times.split_with_sizes([len(part.keys) for part in parts]), strict=True):
            end = begin + int(wanted.sum())
            for room, states in zip(self._room, (part.keys, part.values), strict=True):
                room[begin:end, :, : states.shape[2]] = states.repeat_interleave(wanted, dim=0)
            begin = end
        self.keys, self.values = self._room[:, :, :, :length]

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write the next tokens' states, and return those of all tokens so far."""
        begin = self.get_seq_length()
        end = begin + key_states.shape[2]
        for room, states in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, begin:end] = states
        self.keys, self.values = self._room[:, :, :, :end]
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows, in ascending order. Only what is used is moved."""
        length = self.get_seq_length()
        used = self._room[:, indices, :, :length]
        self._room = self._room[:, : len(indices)]
        self._room[:, :, :, :length] = used
        self.keys, self.values = self._room[:, :, :, :length]


def with_room(caches: Sequence[Cache], more: int, times: Tensor) -> Cache:
    """The rows of several caches in one, in their order and each so many times, with room for so many tokens more."""
    parts = zip(*(cache.layers for cache in caches), strict=True)
    return Cache(layers=[RoomyLayer(layers, more, times) for layers in parts])
