"""Whether the files of a base model can be what the author needs, told without loading them. Nothing imports torch.

What only a loaded model shows (that its logits are its head's, that judging has its words) is looked at when it is
loaded, in `app/policy/model.py`.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from app.policy.base_model import ModelError

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
# What changes logits after the head, by its name in config.json: of Gemma 2, of Cohere, of Granite.
LOGITS_CHANGED_BY = ("final_logit_softcapping", "logit_scale", "logits_scaling")
LLAMA_KIND = "use a model of the Llama kind"


@dataclass(frozen=True)
class BaseFiles:
    """The weights of a base model: bytes on disk, and the shape of each tensor by name."""

    bytes: int
    shapes: dict[str, tuple[int, ...]]

    def adapter_bytes(self, rank: int, modules: Collection[str]) -> int:
        """Bytes of a LoRA adapter of this rank on these modules, in float32."""
        matrices = (shape for name, shape in self.shapes.items() if len(shape) == 2 and _is_of(name, modules))
        return sum(4 * rank * (rows + columns) for rows, columns in matrices)


def read_base_files(directory: Path, modules: Collection[str]) -> BaseFiles:
    """Look at every file that loading needs.

    Args:
        modules: the modules that adapters are put on; the model must have each.

    Raises:
        ModelError: a file is missing or damaged, or it is a model of another kind.
    """
    _check_kind(directory)
    _check_tokenizer(directory)
    files = _weight_files(directory)
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        try:
            # It reads the header, and makes sure that the file is as long as that says.
            with safe_open(file, framework="numpy") as tensors:
                shapes |= {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118 - it is no mapping
        except (SafetensorError, OSError) as error:
            raise ModelError(f"model.hf_repo_id: {file} is damaged ({error}); fetch or copy it again") from None
    lacking = sorted(module for module in modules if not any(_is_of(name, [module]) for name in shapes))
    if lacking:
        raise ModelError(
            f"model.hf_repo_id: {directory} has no module {', '.join(lacking)} to put an adapter on; {LLAMA_KIND}, or "
            "name its own modules in sft.lora.target_modules and ppo.lora.target_modules"
        )
    return BaseFiles(sum(file.stat().st_size for file in files), shapes)


def _check_kind(directory: Path) -> None:
    config = _read(directory / "config.json")
    kinds = [str(kind) for kind in config.get("architectures") or []]
    if not any(kind.endswith("ForCausalLM") for kind in kinds):
        raise ModelError(
            f"model.hf_repo_id: {directory} holds {', '.join(kinds) or 'no architecture'}, no causal language model; "
            f"{LLAMA_KIND}"
        )
    changed = [name for name in LOGITS_CHANGED_BY if config.get(name) not in (None, 1, 1.0)]
    if changed:
        raise ModelError(
            f"model.hf_repo_id: {directory} changes its logits after the head ({', '.join(changed)}); {LLAMA_KIND}"
        )


def _check_tokenizer(directory: Path) -> None:
    if not any((directory / name).is_file() for name in TOKENIZERS):
        raise ModelError(f"model.hf_repo_id: {directory} has no {TOKENIZERS[0]}; fetch or copy it again")
    if (directory / TOKENIZERS[0]).is_file():
        _read(directory / TOKENIZERS[0])
    settings = _read(directory / "tokenizer_config.json")
    templates = (directory / "chat_template.jinja", directory / "chat_template.json")
    has_template = bool(settings.get("chat_template")) or any(file.is_file() for file in templates)
    if not has_template or not settings.get("eos_token"):
        raise ModelError(f"model.hf_repo_id: {directory} has no chat template or no end token; use an Instruct model")


def _weight_files(directory: Path) -> list[Path]:
    index = directory / "model.safetensors.index.json"
    files = {directory / str(name) for name in _read(index)["weight_map"].values()} if index.is_file() else set()
    files |= set(directory.glob("*.safetensors"))
    missing = sorted(file.name for file in files if not file.is_file())
    if missing or not files:
        raise ModelError(
            f"model.hf_repo_id: {directory} lacks {', '.join(missing) or 'a .safetensors file'}; fetch or copy it again"
        )
    return sorted(files)


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"model.hf_repo_id: {file} cannot be read ({error}); fetch or copy it again") from None
    if not isinstance(found, dict):
        raise ModelError(f"model.hf_repo_id: {file} holds no settings; fetch or copy it again")
    return found


def _is_of(tensor: str, modules: Collection[str]) -> bool:
    """Whether a tensor is the weight of one of these modules, as PEFT matches them by the last part of their name."""
    module, _, what = tensor.rpartition(".")
    return what == "weight" and any(module == name or module.endswith(f".{name}") for name in modules)
