"""Checkpoints as directories: what a bot's weights are, where they come from, and whether they may be loaded.

A directory `<root>/<bot_id>/<checkpoint_id>/` holds one adapter in PEFT's format (`adapter_config.json`,
`adapter_model.safetensors`) and `manifest.json`. It is written aside, synced and renamed into place, and never
changes afterwards. Where machines share a store (`app/policy/copies.py`), it is put there before it has its name here,
and what a machine lacks is fetched and verified. The rows that point at it are in `app/policy/registry.py`. Nothing
here needs torch to be imported before an adapter is written or read.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.loading import ConfigError
from app.policy.roots import MANIFEST, Root, SharedRoot
from dbs.states import CheckpointKind

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
# Loading one of these runs code that is in the file.
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
PLAIN_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used. The message names the directory, what is wrong and what to do."""


class DamagedCheckpointError(CheckpointError):
    """A file is missing, changed, or not what the manifest says."""


class ForeignCheckpointError(CheckpointError):
    """It was made for another base model or another bot, or by something that is not Explorer."""


class UnsafeCheckpointError(CheckpointError):
    """It holds a file whose loading could run code."""


class AdapterRef(BaseModel):
    """One adapter of a stack, from the bottom up. `name` is the adapter's name in the model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern="^(reference|policy)$")
    checkpoint_id: uuid.UUID


class Manifest(BaseModel):
    """What a checkpoint is. `files` maps each other file of the directory to its SHA-256."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = Field(default=FORMAT, ge=1, le=FORMAT)
    checkpoint_id: uuid.UUID
    bot_id: str
    kind: CheckpointKind
    base_model: str
    base_hash: str = Field(pattern="^[0-9a-f]{64}$")
    stack: list[AdapterRef]
    parent_id: uuid.UUID | None = None
    run_id: uuid.UUID | None = None
    samples: int = Field(default=0, ge=0)
    config: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    created_at: datetime
    files: dict[str, str] = {}


def base_hash(model_dir: str | Path) -> str:
    """SHA-256 over the weights of a base model, by name and content of its safetensors files.

    Raises:
        CheckpointError: there are none.
    """
    files = sorted(Path(model_dir).glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"{model_dir} has no .safetensors file; convert the base model to safetensors first")
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}:{_sha256(file)}\n".encode())
    return digest.hexdigest()


def directory(root: Root, bot_id: str, checkpoint_id: uuid.UUID) -> Path:
    """Where a checkpoint lies."""
    return Path(root) / bot_id / str(checkpoint_id)


def write(
    root: Root, adapter_state: Mapping[str, Tensor], adapter_config: Mapping[str, Any], manifest: Manifest
) -> tuple[Path, Manifest]:
    """Write an adapter as a checkpoint, whole or not at all; returns its directory and the manifest with its files.

    With a shared root it is at the store when this returns.

    Args:
        adapter_state: tensors by PEFT's names, as `get_peft_model_state_dict` gives them.
        adapter_config: `LoraConfig.to_dict()`; sets are stored as sorted lists.

    Raises:
        CheckpointError: the directory exists already, a tensor holds NaN or infinity, or the store does not take it.
    """
    import torch  # an I/O process lists checkpoints and never writes one
    from safetensors.torch import save_file

    place = directory(root, manifest.bot_id, manifest.checkpoint_id)
    if place.exists():
        raise CheckpointError(f"{place} exists already; a checkpoint is never written twice")
    broken = sorted(name for name, tensor in adapter_state.items() if not bool(torch.isfinite(tensor).all()))
    if broken:
        raise CheckpointError(f"{len(broken)} tensors hold NaN or infinity, first {broken[0]}; nothing was written")
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = place.parent / f".{manifest.checkpoint_id}.{uuid.uuid4().hex[:8]}"
    aside.mkdir()
    try:
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in adapter_state.items()}
        save_file(tensors, aside / ADAPTER_WEIGHTS, metadata={"format": "pt"})
        (aside / ADAPTER_CONFIG).write_text(_json(adapter_config), encoding="utf-8")
        files = {name: _sha256(aside / name) for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)}
        manifest = manifest.model_copy(update={"files": files})
        (aside / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        for file in (*aside.iterdir(), aside):
            sync(file)
        # First, because what is here and not there could be served by this machine alone.
        if isinstance(root, SharedRoot):
            _put(root, aside, manifest.bot_id, manifest.checkpoint_id)
        aside.rename(place)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    sync(place.parent)
    return place, manifest


def _put(root: SharedRoot, place: Path, bot_id: str, checkpoint_id: uuid.UUID) -> None:
    try:
        root.put(place, bot_id, checkpoint_id)
    except ConfigError as error:
        raise CheckpointError(str(error)) from error


def verify(path: str | Path, base: str | None = None, bot_id: str | None = None) -> Manifest:
    """Read a checkpoint's manifest and make sure that every file is the one it names.

    Args:
        base: hash of the base model that it shall sit on, if that is known.
        bot_id: the bot that it shall belong to, if that matters.

    Raises:
        UnsafeCheckpointError: a file could run code when loaded.
        DamagedCheckpointError: a file is missing, changed or unknown, or the manifest cannot be read.
        ForeignCheckpointError: it sits on another base, or belongs to another bot.
    """
    place = Path(path)
    if not place.is_dir():
        raise DamagedCheckpointError(f"{place} is not there; restore it, or roll back to its parent")
    present = {file.name for file in place.iterdir()}
    pickled = sorted(name for name in present if name.lower().endswith(PICKLES))
    if pickled:
        raise UnsafeCheckpointError(f"{place} holds {', '.join(pickled)}: only safetensors are loaded; remove it")
    manifest = _read_manifest(place)
    _verify_files(place, manifest, present)
    if manifest.checkpoint_id != _uuid(place.name):
        raise ForeignCheckpointError(f"{place} holds checkpoint {manifest.checkpoint_id}; put it where its name says")
    if base is not None and manifest.base_hash != base:
        raise ForeignCheckpointError(
            f"{place} was trained on base {manifest.base_model} ({manifest.base_hash[:12]}), the loaded base is "
            f"{base[:12]}; use the base it names, or another checkpoint"
        )
    if bot_id is not None and manifest.bot_id != bot_id:
        raise ForeignCheckpointError(f"{place} belongs to bot {manifest.bot_id}, not to {bot_id}")
    return manifest


def _read_manifest(place: Path) -> Manifest:
    try:
        return Manifest.model_validate_json((place / MANIFEST).read_bytes())
    except OSError as error:
        raise DamagedCheckpointError(
            f"{place} has no readable {MANIFEST} ({error.strerror}); it is no checkpoint"
        ) from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise DamagedCheckpointError(f"{place / MANIFEST}: {where}: {first['msg']}; restore it, or roll back") from None


def _verify_files(place: Path, manifest: Manifest, present: set[str]) -> None:
    named = set(manifest.files)
    odd = sorted(name for name in named if not PLAIN_NAME.match(name))
    if odd:
        raise UnsafeCheckpointError(f"{place / MANIFEST} names {odd[0]!r}, which is not a plain file name")
    missing = sorted(({ADAPTER_CONFIG, ADAPTER_WEIGHTS} | named) - (present & named))
    if missing:
        raise DamagedCheckpointError(
            f"{place} lacks {', '.join(missing)}, or its manifest does; restore it, or roll back"
        )
    unknown = sorted(present - named - {MANIFEST})
    if unknown:
        raise DamagedCheckpointError(f"{place} holds {', '.join(unknown)}, which its manifest does not name; remove it")
    for name, digest in manifest.files.items():
        file = place / name
        if file.is_symlink() or not file.is_file() or _sha256(file) != digest:
            raise DamagedCheckpointError(f"{file} is not the file that was written; restore it, or roll back")


def read_adapter(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint that was verified, by PEFT's names."""
    from safetensors.torch import load_file

    return dict(load_file(Path(path) / ADAPTER_WEIGHTS))


def read_adapter_config(path: str | Path) -> dict[str, Any]:
    """The adapter's PEFT configuration."""
    config = json.loads((Path(path) / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    return dict(config)


def remove(root: Root, bot_id: str, checkpoint_id: uuid.UUID) -> None:
    """Delete a checkpoint's files. It is renamed first, so that no half-deleted directory looks like a checkpoint.

    Raises:
        SharedFilesError: the store does not delete them.
    """
    if isinstance(root, SharedRoot):
        root.remove(bot_id, checkpoint_id)
    forget_copy(root, bot_id, checkpoint_id)


def forget_copy(root: Root, bot_id: str, checkpoint_id: uuid.UUID) -> None:
    """Delete the directory of a checkpoint, and nothing at the store."""
    place = directory(root, bot_id, checkpoint_id)
    if place.exists():
        doomed = place.parent / f".{checkpoint_id}.removed-{uuid.uuid4().hex[:8]}"
        place.rename(doomed)
        shutil.rmtree(doomed)


def _json(value: Mapping[str, Any]) -> str:
    def plain(item: object) -> object:
        if isinstance(item, set | frozenset):
            return sorted(item)
        return getattr(item, "value", str(item))

    return json.dumps(dict(value), indent=2, sort_keys=True, default=plain) + "\n"


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Make a file's bytes, or a directory's entries, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
