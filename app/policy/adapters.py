"""Stacks of LoRA adapters on one resident base model, swapped between batches.

A checkpoint is a stack: nothing (the base), a reference adapter, or a policy adapter on top of the reference. All of
them act by addition, `W x + B₁A₁x + B₂A₂x`; none is ever merged, so that the base stays what its hash says.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel

RESIDENT = 4  # adapters kept in memory: incumbent, canary, reference, and one to come


class AdapterError(RuntimeError):
    """An adapter that does not fit on the loaded base."""


class AdapterStacks:
    """The adapters on a base model. Which of them are active is a property of the model: one thread at a time."""

    def __init__(self, base: Any, resident: int = RESIDENT) -> None:
        self.base = base
        self._resident = resident
        self._loaded: OrderedDict[str, Path] = OrderedDict()  # by name, the least recently used first
        self._peft: Any = None  # a PeftModel from the first adapter on
        self.active: tuple[Path, ...] = ()

    def use(self, stack: Sequence[Path]) -> None:
        """Make exactly these adapters active, from the bottom up. Milliseconds where they are resident.

        Raises:
            AdapterError: a directory holds no adapter in PEFT's format that fits the base.
        """
        wanted = tuple(Path(directory).absolute() for directory in stack)
        if wanted == self.active:
            return
        # First, because PEFT walks through all adapters that there are whenever one is added.
        self._make_room(sum(self._name(directory) not in self._loaded for directory in wanted), {*self.active, *wanted})
        names = [self._load(directory) for directory in wanted]
        if self._peft is not None and names:
            self._peft.base_model.enable_adapter_layers()
            # inference_mode: otherwise every adapter that is activated would ask for gradients.
            self._peft.base_model.set_adapter(names, inference_mode=True)
        elif self._peft is not None:
            self._peft.base_model.disable_adapter_layers()
        self.active = wanted
        self._make_room(0, set(wanted))

    @torch.no_grad()
    def _load(self, directory: Path) -> str:
        name = self._name(directory)
        if name not in self._loaded:
            if not (directory / "adapter_model.safetensors").is_file():
                raise AdapterError(f"{directory} holds no adapter_model.safetensors; restore it, or roll back")
            try:
                self._read(directory, name)
            except (RuntimeError, ValueError, KeyError, TypeError) as error:
                if self._peft is not None and name in self._peft.peft_config:
                    self._peft.delete_adapter(name)
                raise AdapterError(f"{directory} does not fit the loaded base model: {error}") from error
            self._loaded[name] = directory
        self._loaded.move_to_end(name)
        return name

    def _read(self, directory: Path, name: str) -> None:
        if self._peft is None:
            config = PeftConfig.from_pretrained(str(directory))
            config.inference_mode = True
            self._peft = PeftModel(self.base, config, adapter_name=name)
        self._peft.load_adapter(str(directory), adapter_name=name)
        self._peft.eval()

    @staticmethod
    def _name(directory: Path) -> str:
        return "a" + hashlib.sha256(str(directory).encode()).hexdigest()[:16]

    def _make_room(self, more: int, keep: Set[Path]) -> None:
        """Unload the least recently used adapters until `more` fit within the limit; never one of `keep`."""
        for name in [name for name, directory in self._loaded.items() if directory not in keep]:
            if self._peft is None or len(self._loaded) + more <= self._resident:
                return
            self._peft.delete_adapter(name)
            del self._loaded[name]
