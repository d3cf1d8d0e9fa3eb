"""TRL's SFTTrainer on streamed, packed conversations, measured before and after.

Examples come to it as token ids with a mask of the answer, never as texts, because a text could hold a special token.
They are packed into rows of `sft.max_length` tokens without padding; each attends to itself alone.
"""

from __future__ import annotations

import gc
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from datasets import Features, IterableDataset, List, Value
from peft import LoraConfig, get_peft_model_state_dict
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl.trainer.sft_config import SFTConfig as TrainerConfig
from trl.trainer.sft_trainer import SFTTrainer

from app.config import PersonaConfig, VibeBotConfig
from app.learning.conversations import (
    Conversations,
    Example,
    Records,
    Split,
    held_out,
    mean_tokens,
    said,
    split_of,
)
from app.learning.fluency import distance, general_english, overlap, perplexity, style, write
from app.learning.scoring import target_logprobs
from app.loading import ConfigError
from app.policy.hardware import device_of, dtype_of

log = structlog.get_logger()

MEASURED = 200  # held-out examples of each kind
WRITTEN = 32  # answers sampled to held-out prompts, before and after
SAMPLED = 500  # examples whose length says how many steps an epoch has
IGNORED = -100  # a label that the loss leaves out
SAVES = 20  # times that a run leaves something to go on from
FEATURES = Features({"input_ids": List(Value("int32")), "completion_mask": List(Value("int8"))})

Report = Callable[[int, int, dict[str, float]], None]


@dataclass(frozen=True)
class Job:
    """What is to be trained on what. `work` is where the trainer keeps what it goes on from."""

    config: VibeBotConfig
    base: Path
    records: Records
    persona: PersonaConfig
    work: Path


@dataclass(frozen=True)
class Trained:
    """A trained adapter with its measures: perplexities by name, with `_before` and `_after`.

    Attributes:
        state, adapter_config: as a checkpoint holds them.
        samples: examples that one epoch goes through.
        stopped: why it ended before its last step; None if it did not.
    """

    state: dict[str, Tensor]
    adapter_config: dict[str, Any]
    samples: int
    stopped: str | None
    metrics: dict[str, float]


def train(job: Job, report: Report) -> Trained:
    """Train a new adapter on the base.

    Raises:
        ConfigError: the data set holds too little to train on and to measure with.
    """
    sft = job.config.sft
    device = device_of(job.config.model)
    tokenizer: Any = AutoTokenizer.from_pretrained(job.base, trust_remote_code=False)
    conversations = Conversations(tokenizer, job.persona, sft.max_length)
    split = split_of(job.records, sft.held_out_share)
    measured = held_out(job.records, split, conversations, MEASURED)
    steps = _steps(job, split, conversations)
    model: Any = AutoModelForCausalLM.from_pretrained(
        job.base, dtype=dtype_of(job.config.model, device), use_safetensors=True, trust_remote_code=False
    )
    model.to(device)
    sets = {**{f"held_out_{kind}": found for kind, found in measured.items()}}
    sets["general"] = general_english(tokenizer, tokenizer.eos_token_id)
    before = _perplexities(model, sets, tokenizer, "before")
    asked = [example for found in measured.values() for example in found][:WRITTEN]
    style_before = _style(job, model, tokenizer, asked, "before")
    report(0, steps, before)
    watch = _Watch(report, steps, sft.max_minutes)
    trainer = trainer_of(job, model, tokenizer, steps, stream(job.records, split, conversations))
    trainer.add_callback(watch)
    began = time.monotonic()
    trainer.train(resume_from_checkpoint=_to_go_on_from(job.work))
    seconds = time.monotonic() - began
    after = _perplexities(trainer.model, sets, tokenizer, "after")
    texts = (said(record.text) for record in split.training(job.records))
    style_after = _style(job, trainer.model, tokenizer, asked, "after", trained_on=texts)
    state = get_peft_model_state_dict(trainer.model)
    adapter_config = trainer.model.peft_config["default"].to_dict() | {"inference_mode": True}
    metrics = before | after | _changes(before, after) | style_before | style_after | watch.last
    metrics |= {"steps": float(trainer.state.global_step), "seconds": seconds, "held_out_authors": len(split.authors)}
    stopped = watch.stopped
    del trainer, model
    gc.collect()
    return Trained(state, adapter_config, split.records, stopped, metrics)


def _steps(job: Job, split: Split, conversations: Conversations) -> int:
    """Optimiser steps of the run, from the length of the first examples: a stream does not know its own."""
    first = list(itertools.islice(conversations.examples(split.training(job.records)), SAMPLED))
    if not first:
        raise ConfigError(
            f"sft: of the data set's posts {split.records} may be trained on, and none of the first is a conversation; "
            "gather more, or lower sft.held_out_share"
        )
    tokens = split.records * mean_tokens(first) * job.config.sft.epochs
    return max(1, math.ceil(tokens / (job.config.sft.max_length * job.config.sft.batch_size)))


def stream(records: Records, split: Split, conversations: Conversations, *, forever: bool = True) -> IterableDataset:
    """The training rows, over and over: to the trainer all epochs are one, so that going on is a number of rows."""

    def rows() -> Iterator[dict[str, list[int]]]:
        for _ in itertools.count() if forever else range(1):
            for example in conversations.examples(split.training(records)):
                yield _row(example)

    return IterableDataset.from_generator(rows, features=FEATURES)


def _row(example: Example) -> dict[str, list[int]]:
    prompt, answer = len(example.prompt_ids), len(example.answer_ids)
    return {"input_ids": example.prompt_ids + example.answer_ids, "completion_mask": [0] * prompt + [1] * answer}


class AnswersTrainer(SFTTrainer):
    """TRL's, with a loss that computes logits where they count: on a processor TRL's own computes those of prompts too,
    which are most tokens, and then drops them.
    """

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """Cross entropy of the answers' tokens, over `num_items_in_batch`: the number of them in the whole step."""
        assert not return_outputs  # noqa: S101 - only an evaluation asks for them, and there is none
        labels = inputs["labels"][:, 1:]
        read = {name: value for name, value in inputs.items() if name != "labels"}
        decoder = model.get_base_model().get_decoder()
        states = decoder(**read, use_cache=False).last_hidden_state[:, :-1]
        counts = labels != IGNORED
        none = labels.new_empty(0)
        total = -target_logprobs(model, states[counts].float(), labels[counts], banned=none).sum()
        loss: Tensor = total / (counts.sum() if num_items_in_batch is None else num_items_in_batch)
        return loss


def trainer_of(job: Job, model: Any, tokenizer: Any, steps: int, rows: IterableDataset) -> Any:
    """TRL's trainer, set up for a run of so many steps on rows of token ids and masks."""
    sft = job.config.sft
    on_cpu = model.device.type == "cpu"
    arguments = TrainerConfig(
        output_dir=str(job.work),
        max_steps=steps,
        learning_rate=sft.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=max(1, steps // 20),
        # One packed row a pass: attention over one flat row of several would grow with the square of its length.
        per_device_train_batch_size=1,
        gradient_accumulation_steps=sft.batch_size,
        max_length=sft.max_length,
        packing=True,
        packing_strategy="bfd",
        completion_only_loss=True,
        shuffle_dataset=False,  # the files are in the order of the round, which mixes the accounts already
        activation_checkpointing=not on_cpu,
        # The base is in its own format, and PEFT keeps the adapter in float32: nothing is left for autocast.
        bf16=False,
        use_cpu=on_cpu,
        logging_steps=1,
        save_strategy="steps",
        save_steps=max(1, steps // SAVES),
        save_total_limit=2,  # a kill while the newest is written leaves the one before
        report_to="none",
        disable_tqdm=True,
        seed=0,
    )
    lora = LoraConfig(
        r=sft.lora.rank,
        lora_alpha=sft.lora.alpha,
        lora_dropout=sft.lora.dropout,
        target_modules=list(sft.lora.target_modules),
        task_type="CAUSAL_LM",
    )
    return AnswersTrainer(model=model, args=arguments, train_dataset=rows, processing_class=tokenizer, peft_config=lora)


def _to_go_on_from(work: Path) -> str | None:
    """The newest whole checkpoint of the trainer's: it writes `trainer_state.json` last."""
    whole = [state.parent for state in work.glob("checkpoint-*/trainer_state.json")]
    return str(max(whole, key=lambda place: int(place.name.rpartition("-")[2]))) if whole else None


class _Watch(TrainerCallback):
    """Reports every step, and ends the run in time."""

    def __init__(self, report: Report, steps: int, minutes: float) -> None:
        self._report, self._steps, self._minutes = report, steps, minutes
        self._began = time.monotonic()
        self.last: dict[str, float] = {}
        self.stopped: str | None = None

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:  # noqa: ARG002 - theirs
        logged = (logs or {}).items()
        numbers = {f"sft/{name}": float(value) for name, value in logged if isinstance(value, int | float)}
        if "sft/loss" in numbers:
            self.last = numbers
            self._report(int(state.global_step), self._steps, numbers)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 - theirs
        if time.monotonic() - self._began > self._minutes * 60 and not control.should_training_stop:
            control.should_training_stop = True
            done = f"{state.global_step} of {self._steps} steps"
            self.stopped = f"sft.max_minutes={self._minutes:g} were over after {done}"


def _perplexities(model: Any, sets: dict[str, list[Example]], tokenizer: Any, when: str) -> dict[str, float]:
    return {
        f"perplexity_{name}_{when}": perplexity(model, examples, tokenizer.eos_token_id)
        for name, examples in sets.items()
        if examples
    }


def _style(
    job: Job, model: Any, tokenizer: Any, asked: list[Example], when: str, *, trained_on: Iterable[str] | None = None
) -> dict[str, float]:
    """What the model writes to held-out prompts: its style's distance from what was answered there, and its overlap
    with the training texts, where these are given.
    """
    if not asked:
        return {}
    options = job.config.model
    texts = write(model, tokenizer, asked, temperature=options.temperature, most_tokens=options.max_new_tokens)
    ours, theirs = style(texts), style([example.answer for example in asked])
    shown = {f"style_{name}_{when}": value for name, value in ours.items()}
    shown[f"style_distance_{when}"] = distance(ours, theirs)
    if trained_on is not None:
        shown |= {f"style_{name}_community": value for name, value in theirs.items()}
        shown |= {f"overlap_{name}": value for name, value in overlap(texts, trained_on).items()}
    return shown


def _changes(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Relative change of each perplexity: −0.15 is 15 % lower."""
    return {
        name.removesuffix("_before") + "_change": after[name.removesuffix("_before") + "_after"] / value - 1
        for name, value in before.items()
    }
