"""Which checkpoints write and judge now, as Postgres says; compared before every batch."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from app.config import VibeBotConfig
from app.policy import registry
from app.policy.checkpoints import ForeignCheckpointError, verify
from app.policy.roots import root_of
from dbs.models import Checkpoint
from dbs.states import Arm


@dataclass(frozen=True)
class Pointer:
    """A checkpoint and the directories of its adapters, from the bottom up."""

    checkpoint_id: uuid.UUID
    stack: tuple[Path, ...]


@dataclass(frozen=True)
class Hand:
    """A checkpoint that may write: the arm that it stands for, and the chance of that arm."""

    arm: Arm
    chance: float
    checkpoint_id: uuid.UUID
    stack: tuple[Path, ...]


@dataclass(frozen=True)
class Pointers:
    """The checkpoint that is current, the frozen reference, and the canary if there is one."""

    current: Pointer
    reference: Pointer
    canary: Pointer | None

    def hands(self, reference_share: float) -> list[Hand]:
        """Who may write: the reference a little, the incumbent the rest, which it halves with a canary."""
        rest = 1 - reference_share
        shares = [(Arm.INCUMBENT, rest / 2 if self.canary else rest, self.current)]
        if self.canary:
            shares.append((Arm.CANARY, rest / 2, self.canary))
        if reference_share > 0:
            shares.append((Arm.REFERENCE, reference_share, self.reference))
        return [Hand(arm, chance, pointer.checkpoint_id, pointer.stack) for arm, chance, pointer in shares]


class PointerReader:
    """Reads a bot's pointers. Files are verified when a checkpoint is first met: they never change afterwards.

    Args:
        base_hash: of the base model that the checkpoints shall sit on.
    """

    def __init__(self, config: VibeBotConfig, base_hash: str) -> None:
        self._config = config
        self._base_hash = base_hash
        self._verified: set[Path] = set()

    def read(self, session: Session) -> Pointers:
        """The pointers as they are committed now.

        Raises:
            CheckpointError: a checkpoint is damaged, or sits on another base than the one that is loaded.
            LookupError: the bot has no current checkpoint.
        """
        current = registry.current(session, self._config.bot_id)
        reference = registry.reference(session, self._config.bot_id)
        canary = registry.canary(session, self._config.bot_id)
        if current is None or reference is None:
            raise LookupError(f"bot {self._config.bot_id!r} has no current checkpoint; start it once with its config")
        return Pointers(
            self._pointer(current), self._pointer(reference), self._pointer(canary) if canary is not None else None
        )

    def _pointer(self, row: Checkpoint) -> Pointer:
        if row.base_hash != self._base_hash:
            raise ForeignCheckpointError(
                f"checkpoint {row.checkpoint_id} sits on base {row.base_model} ({row.base_hash[:12]}), but "
                f"model.hf_repo_id is {self._config.model.hf_repo_id} ({self._base_hash[:12]}); set it back, or "
                "promote a checkpoint of the new base"
            )
        stack = tuple(path for _, path in registry.stack(root_of(self._config), row))
        for path in stack:
            if path not in self._verified:
                verify(path, self._base_hash, self._config.bot_id)
                self._verified.add(path)
        return Pointer(row.checkpoint_id, stack)
