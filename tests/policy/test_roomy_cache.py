"""A cache with room holds what transformers' own holds, however it is written and made smaller."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import DynamicCache
from transformers.cache_utils import Cache

from app.policy import roomy_cache

LAYERS, HEADS, WIDTH = 2, 3, 4


def states(rows: int, tokens: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, HEADS, tokens, WIDTH, generator=torch.Generator().manual_seed(seed))


def read(rows: int, tokens: int, seed: int) -> DynamicCache:
    cache = DynamicCache()
    for layer in range(LAYERS):
        cache.update(states(rows, tokens, seed + layer), states(rows, tokens, seed + 10 + layer), layer)
    return cache


def with_room(caches: Sequence[Cache], more: int, times: Sequence[int] | None = None) -> Cache:
    rows = sum(len(cache.layers[0].keys) for cache in caches)
    return roomy_cache.with_room(caches, more, torch.tensor(times or [1] * rows))


def write(cache: Cache, rows: int, seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Of each layer, what attention gets to see with one token more."""
    return [
        cache.update(states(rows, 1, seed + layer), states(rows, 1, seed + 10 + layer), layer)
        for layer in range(LAYERS)
    ]


def test_tokens_are_added_and_rows_leave_as_in_a_dynamic_cache():
    plain, roomy = read(5, 6, seed=1), with_room([read(5, 6, seed=1)], more=8)
    rows = 5
    for step, kept in enumerate([None, None, [0, 2, 3, 4], None, [1, 3], [0]]):
        if kept is not None:
            rows = len(kept)
            plain.batch_select_indices(torch.tensor(kept))
            roomy.batch_select_indices(torch.tensor(kept))
        for mine, theirs in zip(write(roomy, rows, 100 * step), write(plain, rows, 100 * step), strict=True):
            assert torch.equal(mine[0], theirs[0])
            assert torch.equal(mine[1], theirs[1])
        assert roomy.get_seq_length() == plain.get_seq_length()


def test_nothing_is_copied_for_a_token():
    roomy = with_room([read(5, 6, seed=1)], more=2)
    before = [layer.keys.data_ptr() for layer in roomy.layers]
    write(roomy, 5, seed=50)
    assert [layer.keys.data_ptr() for layer in roomy.layers] == before


def test_batches_of_other_lengths_are_padded_with_what_is_finite():
    short, long = read(2, 3, seed=1), read(3, 5, seed=30)
    for layer in with_room([short, long], more=1).layers:
        assert layer.keys.shape == (5, HEADS, 5, WIDTH)
        assert not layer.keys[:2, :, 3:].any()
        assert not layer.values[:2, :, 3:].any()
    both = with_room([short, long], more=1).layers[1]
    assert torch.equal(both.values[:2, :, :3], short.layers[1].values)
    assert torch.equal(both.keys[2:], long.layers[1].keys)


def test_a_row_may_be_there_several_times():
    short, long = read(2, 3, seed=1), read(3, 5, seed=30)
    plain, times = with_room([short, long], more=1), [1, 3, 2, 1, 2]
    rows = torch.arange(5).repeat_interleave(torch.tensor(times))
    for once, often in zip(plain.layers, with_room([short, long], more=1, times=times).layers, strict=True):
        assert torch.equal(often.keys, once.keys[rows])
        assert torch.equal(often.values, once.values[rows])
