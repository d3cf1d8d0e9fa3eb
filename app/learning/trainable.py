"""A model in memory as training needs it: the base frozen, the reference frozen on it, the policy on top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from torch import Tensor
from transformers import AutoTokenizer

from app.config import VibeBotConfig
from app.learning.dataset import Dataset
from app.learning.forward import micro_batches
from app.learning.samples import POLICY, REFERENCE, Sample
from app.learning.scoring import acting_as, score
from app.policy.base_model import base_directory
from app.policy.loading import load_base
from app.policy.model import banned_ids
from app.policy.registry import Stack


class Trainable:
    """A base model with the adapters of a checkpoint, and a policy adapter whether or not the checkpoint has one.

    A new policy adapter begins as no change at all (Hu et al. 2021), so that the policy is the reference then.

    Attributes:
        model: the PEFT model.
        tokenizer: the base model's.
        banned: ids that sampling masks, on the model's device.
    """

    def __init__(self, config: VibeBotConfig, stack: Stack, *, seed: int) -> None:
        directory = base_directory(config.model)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
        base = load_base(directory, config.model)
        eos = self.tokenizer.eos_token_id
        self.banned = torch.tensor(banned_ids(self.tokenizer, base.config.vocab_size, eos), device=base.device)
        torch.manual_seed(seed)
        self.model = _with_adapters(base, dict(stack), config).eval()

    def adapter(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The policy adapter's tensors and its PEFT configuration, as a checkpoint holds them."""
        state = get_peft_model_state_dict(self.model, adapter_name=POLICY)
        config = self.model.peft_config[POLICY].to_dict() | {"inference_mode": True}
        return state, config

    def rescored_by_author(self, data: Dataset, micro_batch_size: int) -> list[Sample]:
        """The training samples, those of older checkpoints with the log-probabilities that these have here and now.

        Where an author's files were pruned, what was logged when it wrote has to do.
        """
        samples = [logged.sample for logged in data.training]
        owners = {logged.sample.author: logged.author_id for logged in data.training}
        for author in owners.keys() - {POLICY, REFERENCE}:
            if owners[author] in data.stacks:
                members = [i for i, sample in enumerate(samples) if sample.author == author]
                rows = self._score_as(data.stacks[owners[author]], [samples[i] for i in members], micro_batch_size)
                for i, row in zip(members, rows, strict=True):
                    samples[i] = replace(samples[i], rescored=tuple(row.tolist()))
        return samples

    def _score_as(self, stack: Stack, samples: Sequence[Sample], micro_batch_size: int) -> list[Tensor]:
        names = []
        for i, (_, directory) in enumerate(stack):
            names.append(f"author{i}")
            self.model.load_adapter(str(directory), adapter_name=names[-1])
        self.model.eval()
        with acting_as(self.model, names):
            batches = micro_batches(samples, micro_batch_size, self.banned.device)
            rows = score(self.model, samples, self.banned, batches)
        for name in names:
            self.model.delete_adapter(name)
        return rows


def _with_adapters(base: Any, paths: dict[str, Path], config: VibeBotConfig) -> PeftModel:
    """PEFT keeps adapters in float32 over a bfloat16 base: steps of Adam are too small for bfloat16."""
    lora = config.ppo.lora
    fresh = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules),
        task_type="CAUSAL_LM",
    )
    if REFERENCE not in paths:
        if POLICY not in paths:
            return get_peft_model(base, fresh, adapter_name=POLICY)
        return PeftModel.from_pretrained(base, str(paths[POLICY]), adapter_name=POLICY, is_trainable=True)
    model = PeftModel.from_pretrained(base, str(paths[REFERENCE]), adapter_name=REFERENCE)
    if POLICY in paths:
        model.load_adapter(str(paths[POLICY]), adapter_name=POLICY, is_trainable=True)
    else:
        model.add_adapter(POLICY, fresh)
    return model
