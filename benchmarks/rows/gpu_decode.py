"""Decoding on a GPU: seconds a token of a batch of 256, beside plain `generate` and beside what the memory allows.

A step must read the weights once and every row's keys and values once. How long that takes at the rate at which this
GPU copies memory is the limit that it is held against.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import shapes
from benchmarks.row import Figure, Measured, Probe, Row, Settings, Side
from benchmarks.rows.ppo import ALPHA, TARGET_MODULES

COPIED = 4 * 2**30  # bytes of the copy by which memory is timed
COPIES = 10


def ours(settings: Settings, probe: Probe) -> Measured:
    """`Decoder` as `LanguageModel` uses it, but that no token ends a text: the batch stays whole."""
    import torch
    from transformers import AutoModelForCausalLM

    from app.policy.adapters import AdapterStacks
    from app.policy.decoding import Decoder

    probe.imported()
    model: Any = AutoModelForCausalLM.from_pretrained(shapes.DIRECTORY, dtype=torch.bfloat16)
    model.to("cuda").eval().requires_grad_(False)
    none = torch.empty(0, dtype=torch.long)
    decoder = Decoder(model, pad_id=2, banned=none, end_ids=none)
    found: Measured = {}
    with tempfile.TemporaryDirectory() as scratch:
        # Not in inference mode, whose tensors do not say how often they were written.
        AdapterStacks(model).use([_adapter(model.config, Path(scratch), settings)])
    with torch.inference_mode():
        for name, prompts in _workloads(settings).items():

            def write(tokens: int, prompts: list[list[int]] = prompts) -> None:
                (batch,) = decoder.batches(prompts, len(prompts), prompts=prompts)
                uniforms = torch.rand(len(prompts), tokens, dtype=torch.float64)
                decoder.sample(batch, temperature=float(settings["temperature"]), uniforms=uniforms)

            found |= _timed(name, write, settings)
            limit = _bytes_of_a_step(model, prompts, settings) / _copy_rate()
            found[f"{name}_share"] = limit / found[f"{name}_step"]
    found["copy_rate"] = _copy_rate()
    return found


def generate(settings: Settings, probe: Probe) -> Measured:
    """transformers' `generate` as it comes, with the adapter on the model as PEFT puts it there."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    probe.imported()
    base: Any = AutoModelForCausalLM.from_pretrained(shapes.DIRECTORY, dtype=torch.bfloat16)
    found: Measured = {}
    with tempfile.TemporaryDirectory() as scratch:
        adapter = _adapter(base.config, Path(scratch), settings)
        model: Any = PeftModel.from_pretrained(base.to("cuda"), str(adapter)).eval()
    model.generation_config.eos_token_id = None  # texts are full
    with torch.inference_mode():
        for name, prompts in _workloads(settings).items():
            given = torch.tensor(prompts, device="cuda")

            def write(tokens: int, given: Any = given) -> None:
                model.generate(
                    input_ids=given, attention_mask=torch.ones_like(given), max_new_tokens=tokens, do_sample=True,
                    temperature=float(settings["temperature"]), top_k=0, pad_token_id=2,
                )  # fmt: skip

            found |= _timed(name, write, settings)
    return found


def _workloads(settings: Settings) -> dict[str, list[list[int]]]:
    """Prompts of random tokens: with nothing in common, and as the bot's replies begin alike."""
    chance = random.Random(int(settings["seed"]))

    def tokens(count: int) -> list[int]:
        return [chance.randrange(100, 49_000) for _ in range(count)]

    rows, length, shared = (int(settings[name]) for name in ("rows", "prompt_tokens", "shared_prompt_tokens"))
    persona = tokens(shared)
    return {
        "apart": [tokens(length) for _ in range(rows)],
        "long": [tokens(int(settings["longest_prompt_tokens"])) for _ in range(rows)],
        "together": [persona + tokens(length - shared) for _ in range(rows)],
    }


def _adapter(config: Any, scratch: Path, settings: Settings) -> Path:
    """A random adapter as training leaves one."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    lora = LoraConfig(r=int(settings["lora_rank"]), lora_alpha=ALPHA, target_modules=TARGET_MODULES)
    model = get_peft_model(AutoModelForCausalLM.from_config(config), lora)  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=1e-3)
    model.save_pretrained(str(scratch))
    return scratch


def _timed(name: str, write: Callable[[int], None], settings: Settings) -> Measured:
    """Seconds of a token: what writing many takes longer than writing one, so that reading the prompts is left out."""
    import torch

    many, seconds = int(settings["output_tokens"]), {}
    write(2)  # sets libraries up, and captures
    for tokens in (1, many):
        times = []
        for _ in range(2):
            torch.cuda.synchronize()
            begun = time.perf_counter()
            write(tokens)
            torch.cuda.synchronize()
            times.append(time.perf_counter() - begun)
        seconds[tokens] = min(times)
    step = (seconds[many] - seconds[1]) / (many - 1)
    return {f"{name}_step": step, f"{name}_rate": int(settings["rows"]) / step, f"{name}_reading": seconds[1]}


def _bytes_of_a_step(model: Any, prompts: list[list[int]], settings: Settings) -> float:
    """What must be read at least: every weight, a shared prefix and each row's own tokens, once."""
    from app.policy.prefixes import common_prefix

    config = model.config
    a_token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 2
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    shared = common_prefix(prompts)
    own = len(prompts[0]) - shared + int(settings["output_tokens"]) / 2  # on average over the steps
    return float(weights + a_token * (shared + len(prompts) * own))


def _copy_rate() -> float:
    """Bytes a second, those read and those written, of a large copy within the GPU's memory."""
    import torch

    source, target = torch.ones(2, COPIED // 4, dtype=torch.float32, device="cuda")
    target.copy_(source)
    begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    begun.record()
    for _ in range(COPIES):
        target.copy_(source)
    ended.record()
    torch.cuda.synchronize()
    return float(2 * COPIED * COPIES / (begun.elapsed_time(ended) / 1000))


ROW = Row(
    name="gpu_decode",
    what=(
        "One token of each of 256 texts on a GPU, with a model of the shape of SmolLM2-360M in bf16 and an adapter on "
        "it. *Apart*: prompts with nothing in common. *Long*: the same, as long as the default config lets prompts "
        "be. *Together*: prompts that begin alike, as the bot's replies do."
    ),
    ours=Side(
        label="app.policy.decoding.Decoder",
        measure=ours,
        settings=("The whole batch at once. The limit: the bytes that a step must read, at the GPU's copy rate.",),
    ),
    baseline=Side(
        label="transformers' `generate`",
        measure=generate,
        settings=("Sampling, no top-k, its cache and attention as by default (sdpa), the adapter by PEFT.",),
    ),
    figures=(
        Figure("seconds a step, prompts apart", "apart_step", "s", "baseline / ours", "at least", 4.0),
        Figure("seconds a step, long prompts", "long_step", "s", "baseline / ours", "at least", 4.0),
        Figure("seconds a step, prompts together", "together_step", "s", "baseline / ours", "at least", 4.0),
        Figure("share of the limit, apart", "apart_share", "", "ours alone", "at least", 0.4),
        Figure("share of the limit, long", "long_share", "", "ours alone", "at least", None),
        Figure("share of the limit, together", "together_share", "", "ours alone", "at least", None),
        Figure("tokens a second, apart", "apart_rate", "a second", "ours / baseline", "at least", None),
        Figure("tokens a second, together", "together_rate", "a second", "ours / baseline", "at least", None),
        Figure("memory copied in a second", "copy_rate", "bytes", "ours alone", "at least", None),
    ),
    settings={
        "rows": 256,
        "prompt_tokens": 430,
        "shared_prompt_tokens": 340,
        "longest_prompt_tokens": 1024,
        "output_tokens": 60,
        "lora_rank": 16,
        "temperature": 0.7,
        "seed": 1,
    },
    quick={"rows": 8, "output_tokens": 8},
    repetitions=1,
    packages=("torch", "transformers", "peft"),
    prepare=shapes.prepare,
)  # fmt: skip
