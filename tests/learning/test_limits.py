"""What a training process may take: an allocation beyond it is an exception with a reason, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from app.config import PPOConfig
from app.learning import limits
from app.learning.limits import GB, machine_memory, memory_limit, reason_of
from app.loading import ConfigError
from tests.learning.world import config


def test_without_a_setting_half_of_the_machine_is_the_limit(monkeypatch, tmp_path):
    assert memory_limit(PPOConfig()) == machine_memory() // 2
    assert memory_limit(PPOConfig(max_memory_gb=1.5)) == 1.5 * GB
    container = tmp_path / "memory.max"
    monkeypatch.setattr(limits, "CONTAINER_LIMITS", (str(container),))
    whole = machine_memory()
    container.write_text("max\n")
    assert machine_memory() == whole
    container.write_text("123456789\n")
    assert machine_memory() == 123456789


@pytest.mark.parametrize(
    ("settings", "says"), [({"max_memory_gb": 0.2}, "ppo.max_memory_gb: got 0.2"), ({"max_gpu_share": 2}, "got 2")]
)
def test_limits_that_cannot_work_are_refused(tmp_path, settings, says):
    with pytest.raises(ConfigError, match=says):
        config(tmp_path, **settings)


PROGRAM = """
import json, sys
from app.config import PPOConfig
from app.learning import limits
limits.bound_process(PPOConfig(max_memory_gb=1))
import numpy, torch

def ask_for(make):
    kept = []
    try:
        while True:
            kept.append(make())
    except Exception as error:
        return limits.reason_of(error)

said = [
    ask_for(lambda: torch.zeros(50_000_000)),
    ask_for(lambda: torch.ones(2000, 2000) @ torch.ones(2000, 2000)),
    ask_for(lambda: torch.nn.functional.linear(*torch.ones(2, 2000, 2000, dtype=torch.bfloat16))),
    ask_for(lambda: numpy.zeros(50_000_000)),
    ask_for(lambda: bytearray(100_000_000)),
]
limits.unbind_process()
whole = numpy.zeros(200_000_000)
print(json.dumps(said))
"""


def test_every_allocator_says_by_which_setting_it_was_stopped():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert len(said) == 5
    for reason in said:
        assert reason.startswith("out of memory: the training process may take 1.0 GB (ppo.max_memory_gb)"), reason


def test_reasons():
    assert "longer than" in reason_of(SoftTimeLimitExceeded())
    assert "ppo.max_gpu_share" in reason_of(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert reason_of(MemoryError()).startswith("out of memory: lower ppo.micro_batch_size")
    assert reason_of(ValueError("memory of an elephant")) == "ValueError: memory of an elephant"
