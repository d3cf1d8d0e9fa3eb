"""The jump start's training beside TRL's SFTTrainer as it comes: tokens that are no padding, a second.

Both train the same adapter on the same base in the same number format, on the same conversations in the same order,
made of the posts of the sandbox's community, and take about as many tokens to an optimiser step. Ours is set up as
`app.learning.sfttrainer` sets it up: conversations packed into rows, no activations computed twice on a processor. The
first step of each warms up and is not counted.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.row import BenchmarkError, Figure, Measured, Probe, Row, Settings, Side
from benchmarks.rows import ppo

BEGINNING = datetime(2026, 1, 5, 6, tzinfo=UTC)
SEED = 1


def ours(settings: Settings, probe: Probe) -> Measured:
    def trainer(job: Any, model: Any, tokenizer: Any, steps: int) -> Any:
        from app.learning.conversations import Conversations, Split
        from app.learning.sfttrainer import stream, trainer_of

        conversations = Conversations(tokenizer, job.persona, job.config.sft.max_length)
        return trainer_of(job, model, tokenizer, steps, stream(job.records, Split(), conversations))

    return _measure(settings, probe, trainer)


def as_it_comes(settings: Settings, probe: Probe) -> Measured:
    def trainer(job: Any, model: Any, tokenizer: Any, steps: int) -> Any:
        from datasets import Dataset
        from peft import LoraConfig
        from trl.trainer.sft_config import SFTConfig
        from trl.trainer.sft_trainer import SFTTrainer

        from app.learning.conversations import Conversations

        sft = job.config.sft
        examples = list(Conversations(tokenizer, job.persona, sft.max_length).examples(job.records()))
        rows = {
            "input_ids": [one.prompt_ids + one.answer_ids for one in examples],
            "completion_mask": [[0] * len(one.prompt_ids) + [1] * len(one.answer_ids) for one in examples],
        }
        length = sum(map(len, rows["input_ids"])) / len(examples)
        arguments = SFTConfig(output_dir=str(job.work), max_steps=steps, use_cpu=True, bf16=False, report_to="none",
            disable_tqdm=True, save_strategy="no", max_length=sft.max_length)  # fmt: skip
        a_step = sft.batch_size * sft.max_length / (arguments.per_device_train_batch_size * length)
        arguments.gradient_accumulation_steps = max(1, round(a_step))
        lora = LoraConfig(
            r=sft.lora.rank, lora_alpha=sft.lora.alpha, target_modules=list(sft.lora.target_modules),
            task_type="CAUSAL_LM",
        )  # fmt: skip
        return SFTTrainer(
            model=model, args=arguments, train_dataset=Dataset.from_dict(rows), processing_class=tokenizer,
            peft_config=lora,
        )  # fmt: skip

    return _measure(settings, probe, trainer)


def _measure(settings: Settings, probe: Probe, make: Callable[[Any, Any, Any, int], Any]) -> Measured:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from app.learning.sfttrainer import Job
    from app.policy.hardware import dtype_of

    torch.set_num_threads(int(settings["threads"]))
    probe.imported()
    config = _config(settings)
    records = _records(int(settings["posts"]))
    steps = 1 + int(settings["steps"])
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer: Any = AutoTokenizer.from_pretrained(ppo.MODEL)
        model = AutoModelForCausalLM.from_pretrained(ppo.MODEL, dtype=dtype_of(config.model, torch.device("cpu")))
        job = Job(config, Path(ppo.MODEL), lambda: iter(records), config.persona, Path(scratch))
        trainer = make(job, model, tokenizer, steps)
        meter = _meter(trainer)
        trainer.train()
    if len(meter.at) != steps:
        raise BenchmarkError(f"{len(meter.at)} steps were made instead of {steps}")
    seconds, tokens = meter.at[-1] - meter.at[0], meter.tokens[-1] - meter.tokens[0]
    return {
        "rate": tokens / seconds,
        "tokens_of_a_step": tokens / (steps - 1),
        "places": (meter.places[-1] - meter.places[0]) / tokens,
    }


def _meter(trainer: Any) -> Any:
    """Counts the tokens that a trainer is given, and notes where it was at the end of each step."""
    from transformers import TrainerCallback

    class Meter(TrainerCallback):
        def __init__(self) -> None:
            self.at: list[float] = []
            self.tokens: list[int] = []
            self.places: list[int] = []  # tokens and padding
            self.given = self.filled = 0

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.at.append(time.perf_counter())
            self.tokens.append(self.given)
            self.places.append(self.filled)

    meter, plain = Meter(), trainer.training_step

    def step(model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        places = inputs["input_ids"].numel()
        mask = inputs.get("attention_mask")
        meter.filled += places
        meter.given += places if mask is None else int(mask.sum())
        return plain(model, inputs, *rest, **named)

    trainer.training_step = step
    trainer.add_callback(meter)
    return meter


def _config(settings: Settings) -> Any:
    from app.config import VibeBotConfig

    return VibeBotConfig.model_validate({
        "user_id": "1", "accounts_to_follow": ["someone"],
        "persona": {"name": "Explorer", "description": "A field reporter.", "tone": "curious", "interests": ["trams"]},
        "model": {"hf_repo_id": ppo.MODEL, "device": "cpu"},
        "sft": {"source": "jsonl", "path": "posts.jsonl", "batch_size": int(settings["rows"]),
                "max_length": int(settings["max_length"])},
    })  # fmt: skip


def _records(count: int) -> list[Any]:
    """The first posts of the shipped community, as a data set would have them: a reply with what it answers."""
    from app.data.records import SourcePost, record_of
    from app.sandbox.community import TasteCommunity
    from app.sandbox.communityfile import load

    community, posts, found = TasteCommunity(load("default"), SEED, "explorer"), {}, []
    for post in community.posts_until(BEGINNING, BEGINNING + timedelta(days=60)):
        posts[post.id] = post
        if post.kind == "repost":
            continue
        parent = posts.get(post.target) if post.kind == "reply" and post.target else None
        found.append(record_of(SourcePost(
            str(post.id), str(post.author), post.text, in_reply_to_post_id=str(parent.id) if parent else None,
            parent_text=parent.text if parent else None,
        )))  # fmt: skip
        if len(found) == count:
            return found
    raise BenchmarkError(f"the community wrote {len(found)} posts in 60 days, not {count}")


ROW = Row(
    name="sft",
    what="LoRA SFT of SmolLM2-135M on the posts of the sandbox's community: tokens that are no padding, a second.",
    ours=Side(
        label="app.learning.sfttrainer",
        measure=ours,
        settings=("Packed rows, each conversation attending to itself alone; activations are kept.",),
    ),
    baseline=Side(
        label="SFTTrainer of TRL with its defaults",
        measure=as_it_comes,
        settings=(
            "per_device_train_batch_size 8, each batch padded to its longest, no packing, gradient checkpointing on.",
            "The model is loaded in the number format that our trainer picks, so bf16 is False; gradients are",
            "accumulated until a step has as many tokens as one of ours.",
        ),
    ),
    figures=(
        Figure("tokens a second", "rate", "tokens/s", "ours / baseline", "at least", 1.8),
        Figure("places to a token, padding counted", "places", "", "ours / baseline", "at most", None),
        Figure("tokens of a step", "tokens_of_a_step", "tokens", "ours / baseline", "at least", None),
        Figure("peak memory", "peak_memory", "bytes", "ours / baseline", "at most", None),
    ),
    settings={"posts": 1000, "rows": 8, "max_length": 512, "steps": 4},
    quick={"posts": 300, "rows": 2, "steps": 1},
    packages=("torch", "transformers", "trl", "peft"),
    prepare=ppo.fetch_model,
)
