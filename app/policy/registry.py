"""Which checkpoints a bot has, which one it writes with, and how that moves: the rows of `checkpoints`.

One pointer per bot says what is served (`is_current`), one what is the frozen reference and judge (`is_reference`):
the bottom of the current checkpoint's stack, or the base model where the stack has no reference adapter.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import event, select, update
from sqlalchemy.orm import Session

from app import clock, events
from app.leases import Lease
from app.loading import ConfigError
from app.policy.checkpoints import CheckpointError, Manifest, forget_copy, remove, verify
from app.policy.copies import fetch, sweep_store
from app.policy.roots import Root, SharedRoot
from dbs.models import Bot, Checkpoint, Draft, Post, Reward, TrainingSample
from dbs.states import CheckpointKind, CheckpointState, PostState, SentBy

log = structlog.get_logger()

Stack = list[tuple[str, Path]]  # names and directories of adapters, from the bottom up
LIVE_STATES = (PostState.QUEUED, PostState.SENDING, PostState.POSTED, PostState.UNCONFIRMED)


class UnknownCheckpointError(CheckpointError):
    """The bot has no such checkpoint."""


def ensure_base(session: Session, bot_id: str, base_model: str, base_hash: str) -> Checkpoint:
    """The row of the base model; made, current and the reference, where the bot has no checkpoint yet."""
    _lock(session, bot_id)
    row = session.scalars(
        select(Checkpoint).where(
            Checkpoint.bot_id == bot_id, Checkpoint.kind == CheckpointKind.BASE, Checkpoint.base_hash == base_hash
        )
    ).one_or_none()
    if row is not None:
        return row
    first = session.scalars(select(Checkpoint.checkpoint_id).where(Checkpoint.bot_id == bot_id)).first() is None
    now = clock.now()
    row = Checkpoint(
        checkpoint_id=uuid.uuid4(),
        bot_id=bot_id,
        kind=CheckpointKind.BASE,
        state=CheckpointState.SERVED,
        is_current=first,
        is_reference=first,
        base_model=base_model,
        base_hash=base_hash,
        manifest={"stack": []},
        created_at=now,
        promoted_at=now if first else None,
    )
    session.add(row)
    session.flush()
    return row


def current(session: Session, bot_id: str) -> Checkpoint | None:
    """What the bot writes with now."""
    return session.scalars(select(Checkpoint).where(Checkpoint.bot_id == bot_id, Checkpoint.is_current)).one_or_none()


def reference(session: Session, bot_id: str) -> Checkpoint | None:
    """The frozen reference and judge."""
    return session.scalars(select(Checkpoint).where(Checkpoint.bot_id == bot_id, Checkpoint.is_reference)).one_or_none()


def canary(session: Session, bot_id: str) -> Checkpoint | None:
    """The candidate that is being tried beside the current one."""
    return session.scalars(
        select(Checkpoint).where(Checkpoint.bot_id == bot_id, Checkpoint.state == CheckpointState.CANARY)
    ).one_or_none()


def listing(session: Session, bot_id: str) -> Sequence[Checkpoint]:
    """Every checkpoint of a bot, the newest first."""
    return session.scalars(
        select(Checkpoint).where(Checkpoint.bot_id == bot_id).order_by(Checkpoint.created_at.desc())
    ).all()


def get(session: Session, bot_id: str, checkpoint_id: uuid.UUID) -> Checkpoint:
    """One checkpoint of a bot.

    Raises:
        UnknownCheckpointError: the bot has none of that id.
    """
    row = session.get(Checkpoint, checkpoint_id)
    if row is None or row.bot_id != bot_id:
        raise UnknownCheckpointError(f"bot {bot_id} has no checkpoint {checkpoint_id}; `explorer checkpoints list`")
    return row


def stack(root: Root, row: Checkpoint) -> Stack:
    """Names and directories of the adapters to put on the base, from the bottom up; empty for the base itself.

    With a shared root each of them is fetched first where this machine lacks it.

    Raises:
        CheckpointError: as `copies.fetch`.
    """
    return [
        (adapter["name"], fetch(root, row.bot_id, uuid.UUID(adapter["checkpoint_id"])))
        for adapter in row.manifest["stack"]
    ]


def commit(session: Session, manifest: Manifest) -> Checkpoint:
    """Add the row of a checkpoint that `checkpoints.write` wrote, as a candidate."""
    row = Checkpoint(
        checkpoint_id=manifest.checkpoint_id,
        bot_id=manifest.bot_id,
        kind=manifest.kind,
        state=CheckpointState.CANDIDATE,
        is_current=False,
        is_reference=False,
        parent_id=manifest.parent_id,
        path=f"{manifest.bot_id}/{manifest.checkpoint_id}",
        base_model=manifest.base_model,
        base_hash=manifest.base_hash,
        manifest=manifest.model_dump(mode="json"),
        created_at=manifest.created_at,
    )
    session.add(row)
    session.flush()
    return row


def promote(
    session: Session, root: Root, bot_id: str, checkpoint_id: uuid.UUID, *, lease: Lease | None = None
) -> Checkpoint:
    """Make a checkpoint current, and the bottom of its stack the reference, in the caller's transaction.

    Args:
        lease: the training lease of the run that asks; None for a person's hand.

    Raises:
        LeaseLost: a newer run has taken the lease; the caller's transaction must not commit.
        UnknownCheckpointError: the bot has no such checkpoint.
        CheckpointError: its files were pruned or cannot be used.
    """
    _bring(session, root, bot_id, checkpoint_id)
    _lock(session, bot_id)
    if lease is not None:
        lease.check(session)
    row = get(session, bot_id, checkpoint_id)
    if row.pruned_at is not None:
        raise CheckpointError(f"the files of {checkpoint_id} were pruned at {row.pruned_at.isoformat()}")
    for _, path in stack(root, row):
        verify(path, row.base_hash, bot_id)
    before = current(session, bot_id)
    _point(session, row, _bottom(session, row))
    row.state, row.promoted_at = CheckpointState.SERVED, clock.now()
    session.flush()
    events.record(
        session,
        bot_id,
        "checkpoint.promoted",
        str(checkpoint_id),
        before=str(before.checkpoint_id) if before else None,
        by="training" if lease else "person",
    )
    return row


def rollback(session: Session, root: Root, bot_id: str) -> Checkpoint:
    """Make the parent of the current checkpoint current; the one left is marked as refused.

    Raises:
        CheckpointError: there is no current checkpoint, it has no parent, or the parent's files cannot be used.
    """
    ahead = current(session, bot_id)
    if ahead is not None and ahead.parent_id is not None:
        _bring(session, root, bot_id, ahead.parent_id)
    _lock(session, bot_id)
    left = current(session, bot_id)
    if left is None or left.parent_id is None:
        raise CheckpointError(
            f"bot {bot_id}: {'the current checkpoint has no parent' if left else 'nothing is current'}"
        )
    row = promote(session, root, bot_id, left.parent_id)
    left.state = CheckpointState.REFUSED
    events.record(session, bot_id, "checkpoint.rolled_back", str(left.checkpoint_id), to=str(row.checkpoint_id))
    return row


def prune(session: Session, root: Root, bot_id: str, keep: int) -> list[uuid.UUID]:
    """Give up the files of all but the `keep` newest checkpoints that nothing needs; the rows stay.

    Needed are the current one, the canary and the reference, their ancestors, those that wrote a draft which is yet
    to be learnt from, and whatever any of these stands on. The files go when the caller's transaction has committed.
    """
    _lock(session, bot_id)
    rows = {row.checkpoint_id: row for row in listing(session, bot_id)}
    spare = [row for row in rows.values() if row.path and row.pruned_at is None]
    needed = _with_ancestors(
        rows,
        {
            row.checkpoint_id
            for row in rows.values()
            if row.is_current or row.is_reference or row.state == CheckpointState.CANARY
        },
    ) | _authors_of_unconsumed(session, bot_id)
    spare = [row for row in spare if row.checkpoint_id not in needed][max(keep, 0) :]
    doomed_ids = {row.checkpoint_id for row in spare}
    stood_on = {_uuid(a) for row in rows.values() if row.checkpoint_id not in doomed_ids for a in row.manifest["stack"]}
    doomed = [row for row in spare if row.checkpoint_id not in stood_on]
    for row in doomed:
        row.pruned_at = clock.wall_now()
        events.record(session, bot_id, "checkpoint.pruned", str(row.checkpoint_id))
    ids = [row.checkpoint_id for row in doomed]
    elsewhere = [row.checkpoint_id for row in rows.values() if row.path and row.pruned_at is not None]

    def remove_files(_: Session) -> None:
        for checkpoint_id in elsewhere:  # pruned on another machine, and still in this one's copy
            forget_copy(root, bot_id, checkpoint_id)
        try:
            for checkpoint_id in ids:
                remove(root, bot_id, checkpoint_id)
        except ConfigError as error:
            # The rows are committed, and what no row needs is looked for again by `sweep`.
            log.warning("checkpoints.not_removed", reason=str(error))

    event.listen(session, "after_commit", remove_files, once=True)
    return ids


def sweep(session: Session, root: Root, bot_id: str) -> list[str]:
    """Remove directories that no row needs: written by a process that died before it committed, or half removed.

    At the store the same, and what rows need and only this machine has is put there.

    Only for the holder of the training lease: nobody else may be writing a checkpoint meanwhile.

    Raises:
        CheckpointError: the store does not do what it is asked.
    """
    home = Path(root) / bot_id
    wanted = {row.checkpoint_id for row in listing(session, bot_id) if row.path and row.pruned_at is None}
    entries = [entry for entry in sorted(home.iterdir()) if entry.is_dir()] if home.is_dir() else []
    orphans = [entry for entry in entries if entry.name not in {str(checkpoint_id) for checkpoint_id in wanted}]
    for orphan in orphans:
        shutil.rmtree(orphan)
    if isinstance(root, SharedRoot):
        try:
            sweep_store(session, root, bot_id, wanted)
        except ConfigError as error:
            raise CheckpointError(str(error)) from error
    return [orphan.name for orphan in orphans]


def _bring(session: Session, root: Root, bot_id: str, checkpoint_id: uuid.UUID) -> None:
    """Fetch what promoting it will look at, before the lock is taken: fetching takes time, and others need the row."""
    if isinstance(root, SharedRoot):
        row = get(session, bot_id, checkpoint_id)
        if row.pruned_at is None:
            stack(root, row)
        session.flush()
        session.expire(row)


def _authors_of_unconsumed(session: Session, bot_id: str) -> set[uuid.UUID]:
    """Checkpoints that wrote a live post, or a rewarded draft, that no run has taken up yet."""
    unused = ~select(TrainingSample.draft_id).where(TrainingSample.draft_id == Draft.draft_id).exists()
    of_posts = (
        select(Draft.checkpoint_id)
        .join(Post, Post.draft_id == Draft.draft_id)
        .where(Post.state.in_(LIVE_STATES), Post.sent_by == SentBy.BOT)
    )
    of_rewards = select(Draft.checkpoint_id).join(Reward, Reward.draft_id == Draft.draft_id)
    found: set[uuid.UUID] = set()
    for query in (of_posts, of_rewards):
        found |= set(session.scalars(query.where(Draft.bot_id == bot_id, Draft.edited.is_(False), unused).distinct()))
    return found


def _with_ancestors(rows: dict[uuid.UUID, Checkpoint], ids: set[uuid.UUID]) -> set[uuid.UUID]:
    found: set[uuid.UUID] = set()
    for start in ids:
        at: uuid.UUID | None = start
        while at is not None and at not in found:
            found.add(at)
            at = rows[at].parent_id
    return found


def _bottom(session: Session, row: Checkpoint) -> Checkpoint:
    for adapter in row.manifest["stack"]:
        if adapter["name"] == "reference":
            return get(session, row.bot_id, _uuid(adapter))
    return session.scalars(
        select(Checkpoint).where(
            Checkpoint.bot_id == row.bot_id,
            Checkpoint.kind == CheckpointKind.BASE,
            Checkpoint.base_hash == row.base_hash,
        )
    ).one()


def _point(session: Session, served: Checkpoint, bottom: Checkpoint) -> None:
    """Move both pointers. The old ones are cleared first: at no moment may two rows of a bot be current."""
    own = Checkpoint.bot_id == served.bot_id
    session.execute(update(Checkpoint).where(own, Checkpoint.is_current).values(is_current=False))
    session.execute(update(Checkpoint).where(own, Checkpoint.is_reference).values(is_reference=False))
    session.execute(update(Checkpoint).where(Checkpoint.checkpoint_id == served.checkpoint_id).values(is_current=True))
    session.execute(
        update(Checkpoint).where(Checkpoint.checkpoint_id == bottom.checkpoint_id).values(is_reference=True)
    )


def _lock(session: Session, bot_id: str) -> None:
    """Pointers of one bot move one at a time."""
    if session.scalars(select(Bot.bot_id).where(Bot.bot_id == bot_id).with_for_update()).one_or_none() is None:
        raise UnknownCheckpointError(f"there is no bot {bot_id}; start it once before touching its checkpoints")


def _uuid(adapter: dict[str, Any]) -> uuid.UUID:
    return uuid.UUID(adapter["checkpoint_id"])
