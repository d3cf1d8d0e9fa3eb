"""What a training process may take of its machine, and how a run that hit a limit says so.

A limit that the process sets itself turns an allocation that does not fit into an exception: the run is marked as
failed with a reason, and the generation node beside it never feels it. Where the kernel ends the process instead,
`runs.bury_abandoned` says so as soon as the lease has run out.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

import structlog
from celery.exceptions import SoftTimeLimitExceeded

from app.config import PPOConfig

log = structlog.get_logger()

GB = 10**9
DEFAULT_SHARE = 0.5  # of the machine's memory: the other half is for generation and for what else runs there
# Limits of a container, of version 2 and 1 of control groups. The first says "max" where there is none.
CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
# How torch, its CUDA allocator, oneDNN, the dynamic loader and the C library each say that there is no memory.
SIGNS = (
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "bad_alloc",
    "could not create a primitive",
    "could not create a memory",
    "failed to map segment",
)


def machine_memory() -> int:
    """Bytes of memory of this machine, or of the container that the process is in, if that has fewer."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for name in CONTAINER_LIMITS:
        file = Path(name)
        if file.is_file() and (text := file.read_text().strip()).isdigit():
            found.append(int(text))
    return min(found)


def memory_limit(config: PPOConfig) -> int:
    """Bytes that a training process may take."""
    if config.max_memory_gb is not None:
        return int(config.max_memory_gb * GB)
    return int(DEFAULT_SHARE * machine_memory())


def bound_process(config: PPOConfig) -> None:
    """Let no allocation of this process go beyond `ppo.max_memory_gb`, until `unbind_process`.

    RLIMIT_DATA counts private writable memory, whether malloc or mmap gave it (Linux from 4.7 on, setrlimit(2)), and
    not the files that are mapped to be read. Call it before torch is loaded, in a process that nothing else lives in.
    """
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = memory_limit(config)
    if most == resource.RLIM_INFINITY or limit < most:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, most))
    log.info("training.bounded", memory_gb=round(limit / GB, 1), gpu_share=config.max_gpu_share)


def unbind_process() -> None:
    """Take the limit away: a run that hit it must still be able to write down that it did."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def bound_gpu(config: PPOConfig) -> None:
    """Let this process take at most `ppo.max_gpu_share` of the GPU's memory, where torch finds a GPU."""
    import torch  # only a run needs it, and it has loaded it by now

    if torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(config.max_gpu_share)


def reason_of(error: BaseException) -> str:
    """What ended a run, for its row: a limit by the name of its setting, anything else as it says itself."""
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, SoftTimeLimitExceeded):
        return "it took longer than a training process may (TRAINING_LIMIT_SECONDS of workers/gpu.py)"
    if not _is_out_of_memory(error):
        return said
    if "CUDA" in said:
        return (
            "out of GPU memory: lower ppo.micro_batch_size, or raise ppo.max_gpu_share if generation can spare it; "
            f"{said}"
        )
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if limit == resource.RLIM_INFINITY:
        return f"out of memory: lower ppo.micro_batch_size; {said}"
    return (
        f"out of memory: the training process may take {limit / GB:.1f} GB (ppo.max_memory_gb); raise that if the "
        f"machine has more, or lower ppo.micro_batch_size; {said}"
    )


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError | OSError | ImportError) and any(sign in str(error).lower() for sign in SIGNS)
