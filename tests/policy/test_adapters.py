"""Which adapters are in memory: never more than the limit, and what is used again is what it was."""

from __future__ import annotations

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
        first[adapter] = logits(stacks)
    # Of the very first, PEFT has made an empty one already when its weights are read.
    assert present == [1, 1, 2, 2, 2, 2]
    stacks.use([adapters[0]])
    assert torch.equal(logits(stacks), first[adapters[0]])
    assert not torch.equal(first[adapters[0]], first[adapters[1]])


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
