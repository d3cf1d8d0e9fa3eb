"""A GPU's fused attention as torch ships it, where its log-sum-exps are wanted.

`scaled_dot_product_attention` runs the same kernels and keeps the log-sum-exps to itself, without which attention over
two parts cannot be put together. They are FlashAttention-2's (Dao 2023, arXiv 2307.08691), and for one query per row
cuDNN's, where it has one: FlashAttention-2 works on tiles of 128 queries, of which one row fills three here. On an
H200, 256 rows with 435 keys each of SmolLM2-360M took 93 µs by it and 47 µs by cuDNN.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

AMPERE = (8, 0)  # the compute capability that the kernels ask for
WIDEST = 256  # of a head


class Parts(NamedTuple):
    """What attention is made of. The kv heads divide the heads."""

    query: Tensor
    key: Tensor
    value: Tensor


class Attended(NamedTuple):
    """What comes of it, and the log-sum-exps of the scores in float32, without the last dimension."""

    out: Tensor
    lse: Tensor


def usable(query: Tensor) -> bool:
    """Whether the kernels take a tensor of this device, number format and width of a head."""
    if query.device.type != "cuda" or query.dtype not in (torch.bfloat16, torch.float16):
        return False
    fits = query.shape[-1] % 8 == 0 and query.shape[-1] <= WIDEST
    return fits and torch.cuda.get_device_capability(query.device) >= AMPERE


def attention(parts: Parts, scaling: float, *, causal: bool) -> Attended:
    """Attention of [rows, heads, tokens, width] to [rows, kv heads, keys, width].

    Args:
        causal: whether query t sees the keys up to t alone; there are as many of both then.
    """
    out, lse, *_ = torch.ops.aten._flash_attention_forward(
        *(part.transpose(1, 2) for part in parts),
        None,
        None,
        parts.query.shape[2],
        parts.key.shape[2],
        0.0,
        causal,
        False,
        scale=scaling,
    )
    return Attended(out.transpose(1, 2), lse)


def gradients(gradient: Tensor, parts: Parts, attended: Attended, scaling: float, *, causal: bool) -> Parts:
    """Gradients by query, key and value. Shapes as `attention` takes and returns them.

    What was attended to may have been more keys than these: then this is the part of the gradient that comes by these.
    """
    query = parts.query
    seed = torch.empty(2, dtype=torch.uint64, device=query.device)  # of the dropout that there is none of
    found = torch.ops.aten._flash_attention_backward(
        *(part.transpose(1, 2) for part in (gradient, *parts, attended.out)),
        attended.lse.contiguous(),
        None,
        None,
        query.shape[2],
        parts.key.shape[2],
        0.0,
        causal,
        seed,
        torch.empty(0, device=query.device),
        scale=scaling,
    )
    return Parts(*(part.transpose(1, 2) for part in found))


def one_token(parts: Parts, starts: tuple[Tensor, Tensor], used: Tensor, scaling: float) -> Attended:
    """Attention of one query per row, [queries, heads, width], to a cache [keys, kv heads, width].

    Queries and keys come in as many sets as `used` has numbers: the cache is of one size, and `used` says how much of
    each set's part is filled. All of these tensors may change under a captured graph.

    Args:
        starts: int32 [sets + 1], where each set begins in the queries and in the keys, and the end.
        used: int32 [sets], keys to attend to; at least 1.
    """
    query, key, value = parts
    out, lse, *_ = torch.ops.aten._flash_attention_forward(
        query,
        key,
        value,
        *starts,
        len(query) // len(used),
        len(key) // len(used),
        0.0,
        False,
        False,
        scale=scaling,
        seqused_k=used,
    )
    return Attended(out, lse.view(query.shape[1], len(query)).T)


def has_masked(parts: Parts, bias: Tensor) -> bool:
    """Whether cuDNN has a kernel for `one_token_masked` with such tensors on this device."""
    query, key, value = parts
    asked = torch.backends.cuda.SDPAParams(query[:, :, None], key, value, bias, 0.0, False, True)
    return query.device.type == "cuda" and torch.backends.cuda.can_use_cudnn_attention(asked)


def one_token_masked(parts: Parts, bias: Tensor, scaling: float) -> Attended:
    """Attention of one query per row, [rows, heads, width], to its keys [rows, kv heads, keys, width].

    Args:
        bias: [rows, 1, 1, keys] in the queries' number format: 0 for a key to attend to, minus infinity for others.
    """
    query, key, value = parts
    out, lse, *_ = torch.ops.aten._scaled_dot_product_cudnn_attention(
        query[:, :, None], key, value, bias, True, 0.0, False, False, scale=scaling
    )
    return Attended(out[:, :, 0], lse.view(query.shape[:2]))
