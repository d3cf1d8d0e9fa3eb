"""A base model in memory, as the generation node and PPO have it: frozen, where and in what numbers the config says.

Both must have the same numbers, because log-probabilities are compared between them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from app.config import ModelConfig
from app.policy.hardware import device_of, dtype_of


def load_base(directory: Path, config: ModelConfig) -> Any:
    """The causal language model of a directory, in eval mode and without gradients.

    Raises:
        HardwareError: the config asks for a device that is not there.
    """
    device = device_of(config)
    model: Any = AutoModelForCausalLM.from_pretrained(
        directory, dtype=dtype_of(config, device), use_safetensors=True, trust_remote_code=False
    )
    model.to(device).eval().requires_grad_(False)
    if device.type == "cuda":
        fuse_norms(model)
    return model


def fuse_norms(model: Any) -> None:
    """Replace the norms of a model of Llama's kind by torch's own, their weights shared with the new ones.

    `LlamaRMSNorm` is a formula of eight operations, each a kernel to be started, and has more on the way back. An
    update of SmolLM2-360M on an H100 waits for kernels to be started, not for what they do. `torch.nn.RMSNorm` is one
    kernel; its sums run in float32 as well, and it rounds once where the formula rounds twice.
    """
    norms = [(name, module) for name, module in model.named_modules() if type(module) is LlamaRMSNorm]
    for name, norm in norms:
        fused = nn.RMSNorm(norm.weight.shape, eps=norm.variance_epsilon, device="meta")
        fused.weight = norm.weight
        model.set_submodule(name, fused)
