"""Checkpoints where machines share a store: what this one lacks is fetched, and what nobody needs goes there too."""

from __future__ import annotations

import shutil
import tempfile
import time
import uuid
from pathlib import Path

import structlog
from sqlalchemy.orm import Session

from app.loading import ConfigError
from app.policy.checkpoints import CheckpointError, Manifest, directory, sync, verify
from app.policy.roots import Root, SharedRoot
from dbs.models import Checkpoint, TrainingRun

log = structlog.get_logger()

FETCHING = ".fetching"  # under the root: what is being fetched; no bot has a name like this
STALE_SECONDS = 24 * 3600.0  # after which whoever was fetching is taken for dead


def fetch(root: Root, bot_id: str, checkpoint_id: uuid.UUID) -> Path:
    """The directory of a checkpoint, fetched from the store where this machine lacks it; one that is nowhere is not.

    Raises:
        CheckpointError: what is at the store is damaged, foreign or unsafe, or the store cannot be asked.
    """
    place = directory(root, bot_id, checkpoint_id)
    if isinstance(root, SharedRoot) and not place.is_dir():
        home = root.local / FETCHING
        _forget_dead(home)
        # By its own name, which is part of what is verified.
        aside = home / uuid.uuid4().hex / place.name
        aside.mkdir(parents=True)
        try:
            _fetch(root, bot_id, checkpoint_id, aside)
        finally:
            shutil.rmtree(aside.parent, ignore_errors=True)
    return place


def _fetch(root: SharedRoot, bot_id: str, checkpoint_id: uuid.UUID, aside: Path) -> None:
    url, place = root.url_of(bot_id, checkpoint_id), directory(root, bot_id, checkpoint_id)
    try:
        if not root.has(bot_id, checkpoint_id):
            return
        root.get(bot_id, checkpoint_id, aside)
        verify(aside, bot_id=bot_id)
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    except CheckpointError as error:
        raise type(error)(str(error).replace(str(aside), url)) from None
    for file in (*aside.iterdir(), aside):
        sync(file)
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        aside.rename(place)
    except OSError:
        if not place.is_dir():  # else another process was quicker
            raise
    sync(place.parent)


def _forget_dead(home: Path) -> None:
    """Remove what a process that was killed had begun to fetch."""
    for left in home.iterdir() if home.is_dir() else ():
        if time.time() - left.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)


def sweep_store(session: Session, root: SharedRoot, bot_id: str, wanted: set[uuid.UUID]) -> None:
    """Remove at the store what no row needs, and put there what rows need and only this machine has.

    Args:
        wanted: the checkpoints that rows need.

    Raises:
        SharedFilesError: the store does not do what it is asked.
    """
    there = set(root.ids(bot_id))
    for checkpoint_id in sorted(there - wanted):
        if _is_ours(session, root, bot_id, checkpoint_id):
            root.remove(bot_id, checkpoint_id)
        else:
            log.warning("checkpoint.of_nobody", url=root.url_of(bot_id, checkpoint_id))
    for checkpoint_id in sorted(wanted):
        place = directory(root, bot_id, checkpoint_id)
        if place.is_dir() and not (checkpoint_id in there and root.has(bot_id, checkpoint_id)):
            try:
                verify(place, bot_id=bot_id)
            except CheckpointError as error:
                log.warning("checkpoint.not_shared", reason=str(error))
            else:
                root.put(place, bot_id, checkpoint_id)


def _is_ours(session: Session, root: SharedRoot, bot_id: str, checkpoint_id: uuid.UUID) -> bool:
    """Whether this database knows of what no row needs: another deployment may have been given the same URL."""
    with tempfile.TemporaryDirectory() as scratch:
        found = root.manifest(bot_id, checkpoint_id, Path(scratch) / "manifest.json")
    if found is None or session.get(Checkpoint, checkpoint_id) is not None:
        return True  # half of one, or one that was pruned
    try:
        run_id = Manifest.model_validate_json(found).run_id
    except ValueError:
        return False
    return run_id is not None and session.get(TrainingRun, run_id) is not None
