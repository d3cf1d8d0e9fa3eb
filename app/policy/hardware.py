"""Where the model computes and in what numbers, when the config says 'auto'."""

from __future__ import annotations

import time
from functools import lru_cache

import torch

from app.config import ModelConfig

# How much faster bfloat16 must be to be worth its rounding. With the instructions for it, it is over twice as fast;
# without, it is several times slower. Noise of a busy machine stays far from the threshold.
WORTHWHILE = 1.2


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


@lru_cache(maxsize=1)
def bfloat16_pays_on_cpu() -> bool:
    """Whether this processor multiplies matrices faster in bfloat16. Measured in some 20 ms, once a process."""
    return _matmul_seconds(torch.float32) > WORTHWHILE * _matmul_seconds(torch.bfloat16)


def _matmul_seconds(dtype: torch.dtype) -> float:
    """The best of several tries: the least disturbed by what else runs here. Shapes of SmolLM2-135M, batch 64."""
    states, weights = torch.ones(64, 576, dtype=dtype), torch.ones(1536, 576, dtype=dtype)
    best = float("inf")
    for _ in range(8):
        begun = time.perf_counter()
        torch.nn.functional.linear(states, weights)
        best = min(best, time.perf_counter() - begun)
    return best
