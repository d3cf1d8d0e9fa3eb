"""What must hold after everything went wrong: the sandbox's record of requests against our rows."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from app import clock
from app.local.observer import Observer, Write, duplicates
from app.local.report import audit
from app.local.sandboxed import BOT_ID
from app.reconciliation import ABANDONED_AFTER, is_a_persons
from app.text import canonical
from dbs.models import Checkpoint, Draft, Engagement, Post, TrainingRun
from dbs.states import DraftState, PostState, RunState

LEASE = timedelta(seconds=180)  # a killed run's lease, and the tick that finds it


@dataclass
class Witness:
    """What was committed while it went on: none of it may be gone in the end."""

    posted: dict[uuid.UUID, str] = field(default_factory=dict)
    snapshots: set[tuple[uuid.UUID, datetime]] = field(default_factory=set)

    def look(self, session: Session) -> None:
        rows = session.execute(select(Post.post_id, Post.x_post_id).where(Post.state == PostState.POSTED))
        self.posted |= dict(rows.all())
        self.snapshots |= {tuple(row) for row in session.execute(select(Engagement.post_id, Engagement.retrieval_time))}


def to_settle(session: Session) -> list[Post]:
    """Posts that the bot has still to settle. What it tried twice and looked for in vain each time is a person's."""
    states = [PostState.QUEUED, PostState.SENDING, PostState.UNCONFIRMED]
    return [post for post in session.scalars(select(Post).where(Post.state.in_(states))) if not is_a_persons(post)]


def verdict(session: Session, observer: Observer, witness: Witness, *, since: datetime) -> list[str]:
    """Everything that is wrong; an empty list is a run that was survived.

    Args:
        since: wall time of the last fault.
    """
    writes, found = observer.writes(), audit(session, BOT_ID, observer)
    wrong = list(found.differences)
    if twice := duplicates(writes):
        wrong.append(f"{twice} text(s) or targets stand at X twice")
    return [*wrong, *_given_up(session, writes), *_lost(session, witness), *_stuck(session, since)]


def _given_up(session: Session, writes: Sequence[Write]) -> list[str]:
    """What was left to a person although it stands at X: that would be a post that nobody found."""
    at_x = {canonical(write.text) for write in writes if write.published}
    unconfirmed = session.scalars(select(Post).where(Post.state == PostState.UNCONFIRMED))
    return [
        f"post {post.post_id} was left to a person and stands at X"
        for post in unconfirmed
        if is_a_persons(post) and canonical(post.content) in at_x
    ]


def _lost(session: Session, witness: Witness) -> list[str]:
    posted = dict(session.execute(select(Post.post_id, Post.x_post_id)).all())
    snapshots = {tuple(row) for row in session.execute(select(Engagement.post_id, Engagement.retrieval_time))}
    gone = [post_id for post_id, x_post_id in witness.posted.items() if posted.get(post_id) != x_post_id]
    return [
        *(f"post {post_id} was committed as posted and is not any more" for post_id in gone),
        *(f"snapshot {post_id} of {at} was committed and is gone" for post_id, at in witness.snapshots - snapshots),
    ]


def _stuck(session: Session, since: datetime) -> list[str]:
    now, settled = clock.wall_now(), clock.wall_now() - since
    wrong = [
        f"post {row.post_id} has been {row.state} for over {ABANDONED_AFTER}"
        for row in session.scalars(select(Post).where(Post.state == PostState.SENDING))
        if row.sending_at is None or now - row.sending_at > 2 * ABANDONED_AFTER
    ]
    wrong += [
        f"draft {row.draft_id} is approved and waits"
        for row in session.scalars(select(Draft).where(Draft.state == DraftState.APPROVED))
    ]
    if settled > LEASE:
        wrong += [
            f"run {row.run_id} is running since {row.started_at} and nobody runs it"
            for row in session.scalars(select(TrainingRun).where(TrainingRun.state == RunState.RUNNING))
            if now - row.started_at > timedelta(minutes=15)
        ]
    current = session.scalars(select(Checkpoint).where(Checkpoint.is_current)).all()
    return [*wrong, *([] if len(current) == 1 else [f"{len(current)} checkpoints are current"])]
