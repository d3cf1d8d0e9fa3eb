"""One PPO update on a GPU: the row `ppo`, with a model of the shape of SmolLM2-360M and a warm device on both sides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks import shapes
from benchmarks.row import Figure
from benchmarks.rows import ppo


def prepare(project: Path) -> None:
    """TRL apart, and the model."""
    shapes.prepare(project)
    ppo.install_trl(project)


ROW = replace(
    ppo.ROW,
    name="gpu_ppo",
    what=(
        "One PPO update of a LoRA adapter on a GPU, with a model of the shape of SmolLM2-360M in bf16, writing "
        "included. Each side makes one update before the one that is timed."
    ),
    figures=(
        Figure("seconds per update, with writing", "update_and_generation", "s", "baseline / ours", "at least", 4.0),
        Figure("seconds per update, without writing", "update", "s", "baseline / ours", "at least", None),
        Figure(
            "without writing and reward model", "update_without_reward_model", "s", "baseline / ours", "at least", None
        ),
        Figure("seconds of writing", "generation", "s", "baseline / ours", "at least", None),
        Figure("the GPU's memory", "peak_gpu_memory", "bytes", "ours / baseline", "at most", None),
    ),
    settings={
        **ppo.ROW.settings,
        "model": shapes.DIRECTORY,
        "device": "cuda",
        "warm_updates": 1,
        "samples": 128,
        "micro_batch": 64,
    },
    quick={"samples": 8, "micro_batch": 8, "output_tokens": 8},
    repetitions=2,
    prepare=prepare,
)
