"""Where checkpoints lie: a directory, or a directory that is a working copy of what is at `shared_url`.

At the store a checkpoint is `checkpoints/<bot_id>/<checkpoint_id>/`, with the files that its directory has. A store has
no rename, so its manifest makes it one: put last and removed first.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from pathlib import Path

from app.config import VibeBotConfig
from app.shared_files import SharedFiles, shared_files

MANIFEST = "manifest.json"
FOLDER = "checkpoints"


class SharedRoot(os.PathLike[str]):
    """The directory of this machine's checkpoints, and the store that has all of them."""

    def __init__(self, local: str | Path, files: SharedFiles) -> None:
        self.local = Path(local)
        self._files = files

    def __fspath__(self) -> str:
        return str(self.local)

    def url_of(self, bot_id: str, checkpoint_id: uuid.UUID) -> str:
        return self._files.url_of(_folder(bot_id, checkpoint_id))

    def has(self, bot_id: str, checkpoint_id: uuid.UUID) -> bool:
        """Whether the store has it, whole."""
        return self._files.size(f"{_folder(bot_id, checkpoint_id)}/{MANIFEST}") is not None

    def put(self, place: Path, bot_id: str, checkpoint_id: uuid.UUID) -> None:
        """Put a checkpoint there that lies in a directory."""
        folder = _folder(bot_id, checkpoint_id)
        for name in _manifest_last([file.name for file in place.iterdir()]):
            self._files.put(place / name, f"{folder}/{name}")

    def get(self, bot_id: str, checkpoint_id: uuid.UUID, into: Path) -> None:
        """Fetch whatever is there under this id."""
        folder = _folder(bot_id, checkpoint_id)
        for name in self._files.names(folder):
            self._files.get(f"{folder}/{name}", into / name)

    def manifest(self, bot_id: str, checkpoint_id: uuid.UUID, scratch: Path) -> bytes | None:
        """The manifest as it stands there; None of a half checkpoint.

        Args:
            scratch: a file that may be written over.
        """
        there = self._files.get(f"{_folder(bot_id, checkpoint_id)}/{MANIFEST}", scratch)
        return scratch.read_bytes() if there else None

    def remove(self, bot_id: str, checkpoint_id: uuid.UUID) -> None:
        folder = _folder(bot_id, checkpoint_id)
        for name in reversed(_manifest_last([*self._files.names(folder), MANIFEST])):
            self._files.remove(f"{folder}/{name}")

    def ids(self, bot_id: str) -> list[uuid.UUID]:
        """Every checkpoint of which the store has at least a file."""
        home = f"{FOLDER}/{bot_id}/"
        names = {name.removeprefix(home).partition("/")[0] for name in self._files.below(home.rstrip("/"))}
        return sorted(uuid.UUID(name) for name in names if _is_uuid(name))


Root = str | Path | SharedRoot


def root_of(config: VibeBotConfig) -> Root:
    """The root that the config names.

    Raises:
        SharedFilesError: `shared_url` cannot be used.
    """
    files = shared_files(config)
    return Path(config.model.checkpoint_dir) if files is None else SharedRoot(config.model.checkpoint_dir, files)


def _folder(bot_id: str, checkpoint_id: uuid.UUID) -> str:
    return f"{FOLDER}/{bot_id}/{checkpoint_id}"


def _manifest_last(names: Sequence[str]) -> list[str]:
    return sorted(set(names), key=lambda name: (name == MANIFEST, name))


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
