"""Stacks of LoRA adapters on one resident base model, swapped between batches.

A checkpoint is a stack: nothing (the base), a reference adapter, or a policy adapter on top of the reference. All of
them act by addition, `W x + B₁A₁x + B₂A₂x`; none is ever merged, so that the base stays what its hash says.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence, Set
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

RESIDENT = 4  # adapters kept in memory: incumbent, canary, reference, and one to come
TENSORS = "adapter_model.safetensors"
# Settings that say nothing of what an adapter computes.
ASIDE = ("inference_mode", "base_model_name_or_path", "revision", "task_type", "auto_mapping", "peft_version")


class AdapterError(RuntimeError):
    """An adapter that does not fit on the loaded base."""


@dataclass(frozen=True)
class _Slot:
    """Room for adapters of one shape in the PEFT model.

    Attributes:
        name: what PEFT calls it.
        settings: of every adapter that fits.
        tensors: where an adapter's tensors go, by their names in its file.
    """

    name: str
    settings: dict[str, Any]
    tensors: dict[str, Tensor]


class AdapterStacks:
    """The adapters on a base model. Which of them are active is a property of the model: one thread at a time."""

    def __init__(self, base: Any, resident: int = RESIDENT) -> None:
        self.base = base
        self._resident = resident
        # The least recently used first. A slot that no other adapter has had yet is there by its own name.
        self._loaded: OrderedDict[Path | str, _Slot] = OrderedDict()
        self._names = count()
        self._peft: Any = None  # a PeftModel from the first adapter on
        self.active: tuple[Path, ...] = ()

    def use(self, stack: Sequence[Path]) -> None:
        """Make exactly these adapters active, from the bottom up. Milliseconds where there is room for them already.

        Raises:
            AdapterError: a directory holds no adapter in PEFT's format that fits the base.
        """
        wanted = tuple(Path(directory).absolute() for directory in stack)
        if wanted == self.active:
            return
        names = [self._load(directory, {*self.active, *wanted}) for directory in wanted]
        if self._peft is not None and names:
            self._peft.base_model.enable_adapter_layers()
            # inference_mode: otherwise every adapter that is activated would ask for gradients.
            self._peft.base_model.set_adapter(names, inference_mode=True)
        elif self._peft is not None:
            self._peft.base_model.disable_adapter_layers()
        self.active = wanted
        self._make_room(0, set(wanted))

    @torch.no_grad()
    def _load(self, directory: Path, keep: Set[Path]) -> str:
        """Have an adapter in a slot, and name that; the slots of `keep` stay what they are."""
        if directory not in self._loaded:
            if not (directory / TENSORS).is_file():
                raise AdapterError(f"{directory} holds no {TENSORS}; restore it, or roll back")
            try:
                if not self._overwrite(directory, keep):
                    self._add(directory, keep)
            except (RuntimeError, ValueError, KeyError, TypeError, SafetensorError) as error:
                raise AdapterError(f"{directory} does not fit the loaded base model: {error}") from error
        self._loaded.move_to_end(directory)
        return self._loaded[directory].name

    def _overwrite(self, directory: Path, keep: Set[Path]) -> bool:
        """Put an adapter in the place of the least recently used one; False while there is room, or if it is of another
        shape. A policy's checkpoints are all of one shape, and copying takes a fifth of the time that adding does.
        """
        idle = next((used for used in self._loaded if used not in keep), None)
        if idle is None or len(self._loaded) < self._resident:
            return False
        slot, tensors = self._loaded[idle], load_file(directory / TENSORS)
        if _settings(directory) != slot.settings or _shapes(tensors) != _shapes(slot.tensors):
            return False
        del self._loaded[idle]
        for name, tensor in tensors.items():
            slot.tensors[name].copy_(tensor)
        self._loaded[directory] = slot
        return True

    def _add(self, directory: Path, keep: Set[Path]) -> None:
        """Make a slot for an adapter. The first brings all the others along, so that no later batch waits for them."""
        spare = self._resident - 1 if self._peft is None else 0
        # Before it, because PEFT walks through all adapters that there are whenever one is added.
        self._make_room(1, keep)
        self._loaded[directory] = self._slot(directory)
        for _ in range(spare):
            slot = self._slot(directory)
            self._loaded[slot.name] = slot

    def _slot(self, directory: Path) -> _Slot:
        name = f"adapter{next(self._names)}"
        try:
            if self._peft is None:
                config = PeftConfig.from_pretrained(str(directory))
                config.inference_mode = True
                self._peft = PeftModel(self.base, config, adapter_name=name)
            self._peft.load_adapter(str(directory), adapter_name=name)
        except BaseException:
            if self._peft is not None and name in self._peft.peft_config:
                self._peft.delete_adapter(name)
            raise
        self._peft.eval()
        here = f".{name}."
        tensors = {key.replace(here, "."): tensor for key, tensor in self._peft.named_parameters() if here in key}
        return _Slot(name, _settings(directory), tensors)

    def _make_room(self, more: int, keep: Set[Path]) -> None:
        """Unload the least recently used adapters until `more` fit within the limit; never one of `keep`."""
        for directory in [directory for directory in self._loaded if directory not in keep]:
            if len(self._loaded) + more <= self._resident:
                return
            self._peft.delete_adapter(self._loaded.pop(directory).name)


def _settings(directory: Path) -> dict[str, Any]:
    settings = PeftConfig.from_pretrained(str(directory)).to_dict()
    return {name: value for name, value in settings.items() if name not in ASIDE}


def _shapes(tensors: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}
