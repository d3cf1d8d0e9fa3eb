"""Where the model computes and in what numbers, when the config says 'auto'."""

from __future__ import annotations

import torch

from app.config import ModelConfig


class HardwareError(RuntimeError):
    """The config asks for a device that is not there."""


def device_of(config: ModelConfig) -> torch.device:
    """The device that `model.device` means on this machine.

    Raises:
        HardwareError: cuda is asked for and there is none.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise HardwareError("model.device: got 'cuda', but torch finds no CUDA device; use 'auto' or 'cpu'")
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)


def dtype_of(config: ModelConfig, device: torch.device) -> torch.dtype:
    """The number format that `model.dtype` means on a device."""
    if config.dtype == "bfloat16":
        return torch.bfloat16
    if config.dtype == "float32":
        return torch.float32
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else bfloat16_pays_on_cpu()
    return torch.bfloat16 if fast else torch.float32


def bfloat16_pays_on_cpu() -> bool:
    """Whether this processor has instructions for bfloat16: over twice as fast with them, several times slower without.

    Asked, not measured: on a busy machine a measurement errs, and every process must come to the same answer, because
    log-probabilities are compared between them.
    """
    return any(has for name, has in torch.cpu.get_capabilities().items() if name.endswith("bf16"))
