"""One life from end to end: a post that was read, what was written and sent, what it earned, and who learnt from it.

Each step names the id under which its row and its log lines are found. The trace's own id is that of what it began
with: the X id of the post that was answered, or the id of the draft where the bot spoke first.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from dbs.models import (
    Checkpoint,
    Draft,
    Engagement,
    Judgement,
    Post,
    Preference,
    Reward,
    TimelinePost,
    TrainingRun,
    TrainingSample,
)
from dbs.states import PostState


@dataclass(frozen=True)
class Step:
    """Something that happened.

    Attributes:
        what: seen, judged, drafted, queued, posted, measured, rewarded, chosen, learnt.
        at: None where nobody noted it.
        clock: which time `at` is of.
        id: of the row: its column's name, and the value.
        detail: what came of it, for a person.
    """

    what: str
    at: datetime | None
    clock: Literal["world", "wall"]
    id: tuple[str, str]
    detail: str


def trace_id(session: Session, bot_id: str, wanted: str) -> str:
    """The id of the trace that something belongs to: a timeline post, a draft, or a post by our id or by X's.

    Raises:
        LookupError: nothing of this bot has this id.
    """
    draft = session.scalars(select(Draft).where(Draft.bot_id == bot_id, _belongs(bot_id, wanted)).limit(1)).first()
    if draft is not None:
        return draft.target_post_id or str(draft.draft_id)
    if session.get(TimelinePost, (bot_id, wanted)) is not None:
        return wanted
    raise LookupError(
        f"{wanted}: no post that bot {bot_id} has read, and no draft or post of its own, has this id; the console's "
        "feed shows them"
    )


def trace(session: Session, bot_id: str, trace_id: str) -> list[Step]:
    """Every step of a trace, from the first to the last: by what follows from what, as world and wall time mix."""
    return [*_read(session, bot_id, trace_id), *_written(session, bot_id, trace_id)]


def _belongs(bot_id: str, wanted: str) -> ColumnElement[bool]:
    of_x = select(Post.draft_id).where(Post.bot_id == bot_id, Post.x_post_id == wanted)
    try:
        ours = uuid.UUID(wanted)
    except ValueError:
        return Draft.draft_id.in_(of_x)
    return or_(
        Draft.draft_id == ours,
        Draft.draft_id.in_(select(Post.draft_id).where(Post.bot_id == bot_id, Post.post_id == ours)),
    )


def _read(session: Session, bot_id: str, trace_id: str) -> Iterator[Step]:
    seen = session.get(TimelinePost, (bot_id, trace_id))
    if seen is None:
        return
    yield Step(
        "seen", seen.first_seen_at, "world", ("x_post_id", seen.x_post_id), f"{seen.source}, now {seen.state}: "
        f"{seen.state_reason or seen.text[:80]}",
    )  # fmt: skip
    judgements = select(Judgement).where(Judgement.bot_id == bot_id, Judgement.x_post_id == trace_id)
    for row in session.scalars(judgements.order_by(Judgement.judged_at)):
        verdict = f"selected by {row.selected_by}" if row.selected else "not selected"
        detail = (
            f"score {row.score:.2f} (newsworthy {row.newsworthy:.2f}, substantive {row.substantive:.2f}), {verdict}"
        )
        yield Step("judged", row.judged_at, "world", ("judgement_id", str(row.judgement_id)), detail)


def _written(session: Session, bot_id: str, trace_id: str) -> Iterator[Step]:
    of_it = Draft.target_post_id == trace_id
    if not trace_id.isdecimal():
        of_it = Draft.draft_id == uuid.UUID(trace_id)
    for draft in session.scalars(select(Draft).where(Draft.bot_id == bot_id, of_it).order_by(Draft.created_at)):
        fate = f"refused: {draft.reject_reason}" if draft.reject_rule else draft.state
        detail = f"{draft.kind} by checkpoint {draft.checkpoint_id}, attempt {draft.attempt}, {fate}"
        yield Step("drafted", draft.created_at, "world", ("draft_id", str(draft.draft_id)), detail)
        yield from _sent(session, draft)
        yield from _learnt(session, draft)


def _sent(session: Session, draft: Draft) -> Iterator[Step]:
    for post in session.scalars(select(Post).where(Post.draft_id == draft.draft_id).order_by(Post.queued_at)):
        reason = f": {post.state_reason}" if post.state_reason else ""
        yield Step("queued", post.queued_at, "world", ("post_id", str(post.post_id)), f"now {post.state}{reason}")
        if post.state != PostState.POSTED:
            continue
        yield Step("posted", post.post_time, "world", ("x_post_id", str(post.x_post_id)), f"by the {post.sent_by}")
        readings = select(Engagement).where(Engagement.post_id == post.post_id).order_by(Engagement.retrieval_time)
        for row in session.scalars(readings):
            counts = {"likes": row.likes, "reposts": row.retweets, "replies": row.replies, "quotes": row.quotes}
            told = ", ".join(f"{count} {name}" for name, count in counts.items() if count is not None)
            age = f"at {row.age_s / 60:.0f} min"
            yield Step("measured", row.retrieval_time, "world", ("post_id", str(post.post_id)), f"{age}: {told}")


def _learnt(session: Session, draft: Draft) -> Iterator[Step]:
    its = ("draft_id", str(draft.draft_id))
    for reward in session.scalars(select(Reward).where(Reward.draft_id == draft.draft_id).order_by(Reward.computed_at)):
        yield Step("rewarded", reward.computed_at, "world", its, f"{reward.reward:+.2f} ({reward.reward_version})")
    chosen = or_(Preference.chosen_draft_id == draft.draft_id, Preference.rejected_draft_id == draft.draft_id)
    for choice in session.scalars(select(Preference).where(chosen)):
        what = "chosen" if choice.chosen_draft_id == draft.draft_id else "not chosen"
        yield Step("chosen", choice.chosen_at, "wall", ("preference_id", str(choice.preference_id)), what)
    runs = (
        select(TrainingRun, TrainingSample.held_out, Checkpoint)
        .join(TrainingSample, TrainingSample.run_id == TrainingRun.run_id)
        .outerjoin(Checkpoint, Checkpoint.checkpoint_id == TrainingRun.checkpoint_id)
        .where(TrainingSample.draft_id == draft.draft_id)
        .order_by(TrainingRun.started_at)
    )
    for run, held_out, checkpoint in session.execute(runs):
        use = "held out for the gate" if held_out else "trained on"
        made = f", checkpoint {checkpoint.checkpoint_id} ({checkpoint.state})" if checkpoint else ""
        yield Step(
            "learnt", run.started_at, "wall", ("run_id", str(run.run_id)), f"{run.kind}, {use}: {run.state}{made}"
        )
