"""Tiny random models: one with the two adapters, where only formulas matter, and one on disk, for whole turns."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from policy.tiny_model import save_tiny_model
from transformers import LlamaConfig, LlamaForCausalLM

from app.config import VibeBotConfig
from app.learning.features import NAMES
from app.learning.samples import Sample
from app.policy import checkpoints
from tests.learning.world import World, config

VOCABULARY = 40
END = 2
BANNED = torch.tensor([0, 1])


def tiny_base(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=256,
            initializer_range=0.3,
        )
    ).eval()


def tiny_model(
    *, with_reference: bool = False, seed: int = 0, targets: Sequence[str] = ("q_proj", "v_proj")
) -> PeftModel:
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=list(targets))
    model = get_peft_model(tiny_base(seed), lora, adapter_name="reference" if with_reference else "policy")
    if with_reference:
        model.add_adapter("policy", lora)
        shake(model, "reference", seed)
    return model.eval()


def shake(model: PeftModel, adapter: str, seed: int, size: float = 0.3) -> None:
    """Give an adapter weights that do something: LoRA begins as no change at all."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if f".{adapter}." in name:
            parameter.data = size * torch.randn(parameter.shape, generator=generator)


def sample(prompt: Sequence[int], output: Sequence[int], **changes) -> Sample:
    facts = {
        "draft_id": uuid.uuid4(),
        "prompt_ids": tuple(prompt),
        "output_ids": tuple(output),
        "behaviour_logprobs": (-1.0,) * len(output),
        "temperature": 0.7,
        "reward": 0.0,
        "features": np.zeros(len(NAMES)),
    }
    return Sample(**(facts | changes))


def slow_logprobs(model: PeftModel, one: Sample, banned: torch.Tensor = BANNED) -> list[float]:
    """The obvious version: one sequence, one forward pass of everything, one token at a time."""
    ids = torch.tensor([[*one.prompt_ids, *one.output_ids]])
    with torch.no_grad():
        logits = model(ids).logits[0].float()
    found = []
    for t, token in enumerate(one.output_ids):
        row = (logits[len(one.prompt_ids) + t - 1] / one.temperature).tolist()
        allowed = [value for i, value in enumerate(row) if i not in banned.tolist()]
        found.append(row[token] - math.log(sum(math.exp(value) for value in allowed)))
    return found


@pytest.fixture
def model() -> PeftModel:
    return tiny_model()


@torch.no_grad()
def write(model: PeftModel, prompt: Sequence[int], n: int, *, length: int = 12, seed: int = 0) -> list[Sample]:
    """Sample n outputs from the active policy, with the log-probabilities that sampling saw."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.tensor([list(prompt)] * n)
    logprobs: list[list[float]] = [[] for _ in range(n)]
    outputs: list[list[int]] = [[] for _ in range(n)]
    for _ in range(length):
        logits = model(ids).logits[:, -1].float() / 0.7
        logits[:, BANNED] = -torch.inf
        chances = torch.log_softmax(logits, -1)
        tokens = torch.multinomial(chances.exp(), 1, generator=generator)
        for row in range(n):
            if not outputs[row] or outputs[row][-1] != END:
                outputs[row].append(int(tokens[row]))
                logprobs[row].append(float(chances[row, tokens[row]]))
        ids = torch.cat([ids, tokens], 1)
    return [sample(prompt, out, behaviour_logprobs=tuple(seen)) for out, seen in zip(outputs, logprobs, strict=True)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def settings(tmp_path, tiny) -> VibeBotConfig:
    return config(
        tmp_path, str(tiny), gate="demo", min_samples=32, batch_size=16, micro_batch_size=8, learning_rate=2e-3,
        lora={"rank": 4, "alpha": 8},
    )  # fmt: skip


@pytest.fixture
def world(database, bot, tiny) -> World:
    return World(database, checkpoints.base_hash(tiny))
