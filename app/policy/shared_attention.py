"""Attention over a prefix that all rows of a batch share, its keys and values kept and read once for all rows.

The softmax over prefix and own tokens is put together from the two parts by their log-sum-exps, which is exact
(Hydragen, Juravsky et al. 2024, arXiv 2402.05099). For 50 rows of some 40 tokens after a persona's prompt of 353, a
step of SmolLM2-135M took 0.20 s of one core instead of 0.33 to 0.41 with the prefix copied for every row.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "shared_prefix"  # the `attn_implementation` of a model that is to attend like this


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    shared_prefix: Any = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """An attention function as transformers wants it, with one argument more.

    Args:
        query: [rows, heads, tokens, width]; `key` and `value` have as many heads or a divisor of them, and hold the
            rows' own tokens only.
        attention_mask: bool [rows, 1, 1, own tokens] of one further token; None where own tokens see those before them.
        shared_prefix: a cache of one row, which every row comes after; None for attention as usual.
    """
    if shared_prefix is None:
        usual: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **others
        )
        return usual
    rows, heads, tokens, width = query.shape
    group = heads // key.shape[1]
    # Queries of all rows and of all heads that share a key become one long row of queries.
    grouped = query.reshape(rows, -1, group * tokens, width)
    together = grouped.transpose(0, 1).reshape(1, -1, rows * group * tokens, width)
    layer = shared_prefix.layers[module.layer_idx]
    before, before_lse = _with_lse(together, layer.keys, layer.values, scaling)
    before = before.view(-1, rows, group * tokens, width).transpose(0, 1).reshape(query.shape)
    before_lse = before_lse.view(-1, rows, group * tokens).transpose(0, 1).reshape(query.shape[:3])
    if tokens == 1:
        own, own_lse = _with_lse(grouped, key, value, scaling, mask=attention_mask)
    else:
        keys, values = (part.repeat_interleave(group, dim=1) for part in (key, value))
        own, own_lse = _with_lse(query, keys, values, scaling, causal=True)
    own, own_lse = own.reshape(query.shape), own_lse.reshape(query.shape[:3])
    share = torch.sigmoid(before_lse - own_lse)[..., None]
    mixed = share * before.float() + (1 - share) * own.float()
    return mixed.to(query.dtype).transpose(1, 2).contiguous(), None


def _with_lse(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, *, mask: Tensor | None = None, causal: bool = False
) -> tuple[Tensor, Tensor]:
    """Attention, and the logarithm of each query's softmax denominator in float32."""
    bias = None if mask is None else torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, -torch.inf)
    if query.device.type != "cpu":
        return _explicit(query, key, value, scaling, bias=bias, causal=causal)
    # What `scaled_dot_product_attention` runs on a CPU; only this name of it returns the denominators.
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, 0.0, causal, attn_mask=bias, scale=scaling
    )
    return out, lse


def _explicit(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, *, bias: Tensor | None, causal: bool
) -> tuple[Tensor, Tensor]:
    """The same by its formula, in float32: for devices whose fused kernels differ in what they return."""
    scores = (query.float() @ key.float().transpose(-1, -2)) * scaling
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    if bias is not None:
        scores = scores + bias.float()
    lse = scores.logsumexp(-1)
    return (scores - lse[..., None]).exp() @ value.float(), lse


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
