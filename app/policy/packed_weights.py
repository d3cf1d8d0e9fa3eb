"""Frozen weights as oneDNN's bfloat16 kernels read them, laid out once and not again in every call.

A step of sampling multiplies a few rows by every weight there is, and a plain `Linear` has its weights rearranged each
time. Packed, a product with 10 rows took half to three quarters of the time, sampling with SmolLM2-135M as a whole a
fifth less, with the same bits on one core. It is what torch.compile does when it freezes a model for a CPU
(`torch/_inductor/fx_passes/mkldnn_fusion.py`), without the compiler.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

ROWS = 32  # that the layout is chosen for; the choice was the same for 1 and 450


class PackedLinear(nn.Linear):
    """A linear layer for inference alone: its weights are packed, and there is no way back through it."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__(plain.in_features, plain.out_features, bias=False, device="meta")
        self.weight = nn.Parameter(_packed(plain.weight), requires_grad=False)
        self.bias = plain.bias

    def forward(self, states: Tensor) -> Tensor:
        return _multiply(states, self.weight, self.bias)


class Head:
    """The output embedding, `states Wᵀ`.

    Args:
        packed: whether to multiply by a packed copy.

    Attributes:
        weight: [vocabulary, width], not packed: the input embedding may be the same tensor.
    """

    def __init__(self, weight: Tensor, *, packed: bool) -> None:
        self.weight = weight
        self._packed = _packed(weight) if packed else None

    def __call__(self, states: Tensor) -> Tensor:
        """Logits [rows, vocabulary] of states [rows, width]."""
        return states @ self.weight.T if self._packed is None else _multiply(states, self._packed, None)


def pack(model: Any) -> None:
    """Replace the linear layers of a frozen model's decoder, where that pays; the head is `Head`'s.

    Adapters may be put on them afterwards. Plain weights are freed, so that memory stays what it was.
    """
    decoder = model.get_decoder()
    layers = [(name, module) for name, module in decoder.named_modules() if type(module) is nn.Linear]
    for name, layer in layers:
        if pays(layer.weight):
            decoder.set_submodule(name, PackedLinear(layer))


def pays(weight: Tensor) -> bool:
    """Whether products with a weight are quicker packed: bfloat16, on a CPU for which oneDNN has such kernels."""
    on_cpu = weight.device.type == "cpu" and weight.dtype == torch.bfloat16
    return on_cpu and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _packed(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)
    return packed


def _multiply(states: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(states, packed, bias, "none", [], "")
    return product
