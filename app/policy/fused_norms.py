"""On a GPU, torch's own norm in place of transformers'.

`LlamaRMSNorm` is a formula of six operations, each a kernel to be started, and twice as many on the way back. A pass of
SmolLM2 on an H100 waits for kernels to be started, not for what they do. `torch.nn.RMSNorm` is one each way; its sums
run in float32 as well, and it rounds once where the formula rounds twice.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm


def fuse_norms(model: Any) -> None:
    """Replace the norms of a model of Llama's kind, their weights shared with the new ones."""
    norms = [(name, module) for name, module in model.named_modules() if type(module) is LlamaRMSNorm]
    for name, norm in norms:
        fused = nn.RMSNorm(norm.weight.shape, eps=norm.variance_epsilon, device="meta")
        fused.weight = norm.weight
        model.set_submodule(name, fused)
