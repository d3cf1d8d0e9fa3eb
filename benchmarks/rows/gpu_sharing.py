"""How long a batch takes to write on a GPU while another process trains on it, beside an idle one.

Generation and training are two nodes on one GPU. A timeline's answers are not to wait for a run that takes an hour.
"""

from __future__ import annotations

import multiprocessing
import uuid
from typing import Any

from benchmarks import shapes
from benchmarks.row import BenchmarkError, Figure, Measured, Probe, Row, Settings, Side
from benchmarks.rows import gpu_ppo, ppo
from benchmarks.workload import logged_batch

PATIENCE = 180  # seconds until training must be under way


def ours(settings: Settings, probe: Probe) -> Measured:
    """Batches while a process like the training node's makes one update after another."""
    context = multiprocessing.get_context("spawn")
    begun, stop, updates = context.Event(), context.Event(), context.Value("i", 0)
    trainer = context.Process(target=_train, args=(dict(settings), begun, stop, updates), daemon=True)
    trainer.start()
    try:
        if not begun.wait(PATIENCE):
            raise BenchmarkError(f"training had not begun after {PATIENCE} s")
        before = updates.value
        found = _write(settings, probe)
        if not trainer.is_alive() or updates.value == before:
            raise BenchmarkError("nothing was trained meanwhile")
    finally:
        stop.set()
        trainer.join(30)
    return found | {"updates": float(updates.value - before)}


def idle(settings: Settings, probe: Probe) -> Measured:
    """Batches, and nothing else on the GPU."""
    return _write(settings, probe)


def _write(settings: Settings, probe: Probe) -> Measured:
    from app.policy.model import LanguageModel

    probe.imported()
    model = LanguageModel(ppo.config_of(settings).model)
    prompts, _ = logged_batch(model.tokenizer, settings)
    seconds = []
    for turn in range(int(settings["batches"]) + 3):
        begun = ppo.now(settings)
        model.sample(
            prompts,
            temperature=float(settings["temperature"]),
            max_new_tokens=int(settings["output_tokens"]),
            seed=turn,
        )
        seconds.append(ppo.now(settings) - begun)
    seconds = sorted(seconds[3:])  # the first ones set up libraries and graphs
    return {"p95": seconds[int(0.95 * len(seconds))], "median": seconds[len(seconds) // 2]}


def _train(settings: Settings, begun: Any, stop: Any, updates: Any) -> None:
    """Update after update on outputs that the policy itself might have written."""
    import numpy as np
    from transformers import AutoTokenizer

    from app.learning.features import NAMES
    from app.learning.ppo import train
    from app.learning.samples import Sample
    from app.learning.trainable import Trainable

    config = ppo.config_of(settings)
    trainable = Trainable(config, [], seed=1)
    prompts, outputs = logged_batch(AutoTokenizer.from_pretrained(str(settings["model"])), settings)
    rewards = np.random.default_rng(1).normal(size=len(prompts))
    samples = [
        Sample(uuid.UUID(int=i), prompts[i], outputs[i], [0.0] * len(outputs[i]), 0.7, float(rewards[i]),
               np.zeros(len(NAMES)))
        for i in range(len(prompts))
    ]  # fmt: skip
    while not stop.is_set():
        samples = ppo.as_written_now(trainable, samples, config)
        if train(trainable.model, samples, config.ppo, banned=trainable.banned, seed=1).steps == 0:
            raise BenchmarkError("an update made no step")
        updates.value += 1
        begun.set()


ROW = Row(
    name="gpu_sharing",
    what=(
        "A batch of replies written on a GPU while another process trains on it without a pause, beside the same on an "
        "idle GPU; a model of the shape of SmolLM2-360M in bf16."
    ),
    ours=Side(
        label="while a process trains", measure=ours, settings=("Generation and training as the nodes do them.",)
    ),
    baseline=Side(label="idle", measure=idle, settings=("The same batches.",)),
    figures=(
        Figure("95th percentile of a batch", "p95", "s", "ours / baseline", "at most", 1.5),
        Figure("median of a batch", "median", "s", "ours / baseline", "at most", None),
        Figure("updates meanwhile", "updates", "", "ours alone", "at least", None),
    ),
    settings={**gpu_ppo.ROW.settings, "samples": 32, "micro_batch": 16, "batches": 40},
    quick={"batches": 5, "output_tokens": 8},
    repetitions=2,
    packages=("torch", "transformers", "peft"),
    prepare=shapes.prepare,
)
