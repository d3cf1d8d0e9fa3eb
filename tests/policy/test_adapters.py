"""Which adapters are in memory: never more than the limit, and what is used again is what it was."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from tiny_model import save_adapter, save_tiny_model
from transformers import LlamaForCausalLM

from app.policy.adapters import AdapterError, AdapterStacks

LIMIT = 3
TOKENS = torch.arange(1, 9)[None]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_tiny_model(tmp_path / "tiny")


@pytest.fixture
def stacks(base: Path) -> AdapterStacks:
    model: Any = LlamaForCausalLM.from_pretrained(base)
    return AdapterStacks(model.eval(), resident=LIMIT)


@pytest.fixture
def adapters(tmp_path: Path, base: Path) -> list[Path]:
    return [save_adapter(tmp_path / f"adapter{seed}", base, seed=seed) for seed in range(6)]


def logits(stacks: AdapterStacks) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = stacks.base(TOKENS).logits
        return found


def test_room_is_made_before_an_adapter_is_loaded(
    stacks: AdapterStacks, adapters: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    present: list[int] = []
    plain = PeftModel.load_adapter

    def load_adapter(model: Any, *args: Any, **kwargs: Any) -> Any:
        present.append(len(model.peft_config))
        return plain(model, *args, **kwargs)

    monkeypatch.setattr(PeftModel, "load_adapter", load_adapter)
    first = {}
    for adapter in adapters:
        stacks.use([adapter])
        assert len(present) == LIMIT
        first[adapter] = logits(stacks)
    # The first brings room for all: of itself, PEFT has made an empty one already when its weights are read.
    assert present == [1, 1, 2]
    for adapter in reversed(adapters):
        stacks.use([adapter])
        assert torch.equal(logits(stacks), first[adapter])
    assert present == [1, 1, 2]
    assert all(not torch.equal(first[a], first[b]) for a, b in pairwise(adapters))


def test_an_adapter_takes_the_place_of_none_that_is_active_or_of_another_shape(
    stacks: AdapterStacks, adapters: list[Path], tmp_path: Path, base: Path
) -> None:
    wide, alone = save_adapter(tmp_path / "wide", base, seed=7, rank=8), {}
    for adapter in [*adapters, wide]:
        stacks.use([adapter])
        alone[adapter] = logits(stacks)
    for stack in (adapters[:3], [adapters[3], wide], [wide], [adapters[4], adapters[5]], [adapters[0]]):
        stacks.use(stack)
        assert stacks.active == tuple(stack)
        fresh = AdapterStacks(LlamaForCausalLM.from_pretrained(base).eval())
        fresh.use(stack)
        assert torch.equal(logits(stacks), logits(fresh))
        if len(stack) == 1:
            assert torch.equal(logits(stacks), alone[stack[0]])


def test_room_that_nobody_has_had_is_given_up_for_another_shape(
    stacks: AdapterStacks, adapters: list[Path], tmp_path: Path, base: Path
) -> None:
    wide, narrow = (save_adapter(tmp_path / str(rank), base, seed=rank, rank=rank) for rank in (8, 2))
    for stack in ([adapters[0]], [wide], [adapters[0], wide, narrow], [adapters[1]]):
        stacks.use(stack)
        assert len(stacks.base.model.layers[0].self_attn.q_proj.lora_A) <= LIMIT
        fresh = AdapterStacks(LlamaForCausalLM.from_pretrained(base).eval())
        fresh.use(stack)
        assert torch.equal(logits(stacks), logits(fresh))


def test_a_torn_file_is_told_and_changes_nothing(stacks: AdapterStacks, adapters: list[Path]) -> None:
    for adapter in adapters[:LIMIT]:
        stacks.use([adapter])
    before = logits(stacks)
    file = adapters[4] / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(AdapterError, match="adapter4 does not fit the loaded base model"):
        stacks.use([adapters[4]])
    assert torch.equal(logits(stacks), before)
    stacks.use([adapters[0]])
    stacks.use([adapters[LIMIT - 1]])
    assert torch.equal(logits(stacks), before)


def test_what_is_active_stays_until_the_next_is_there(
    stacks: AdapterStacks, adapters: list[Path], tmp_path: Path
) -> None:
    for adapter in adapters[:2]:
        stacks.use([adapter])
    stacks.use(adapters[2:4])
    before = logits(stacks)
    with pytest.raises(AdapterError, match="no adapter_model"):
        stacks.use([tmp_path / "nowhere", adapters[5]])
    assert torch.equal(logits(stacks), before)
    assert stacks.active == tuple(adapters[2:4])
