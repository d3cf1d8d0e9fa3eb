"""What is kept of the author's work: judgements, drafts with all that learning needs of them, how long batches took."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy.orm import Session

from app import clock, events
from app.config import VibeBotConfig
from app.policy.judge import Scores, Selection
from app.policy.pointers import Pointers
from app.policy.wording import PROMPT_VERSION
from app.policy.writer import Written
from app.safety import FILTER_VERSION
from dbs.models import Draft, DraftSample, Judgement, TimelinePost
from dbs.states import DraftState


def judgement(row: TimelinePost, version: str, score: Scores, selection: Selection) -> Judgement:
    """The row of a judgement, made now."""
    return Judgement(
        judgement_id=uuid.uuid4(),
        bot_id=row.bot_id,
        x_post_id=row.x_post_id,
        judge_version=version,
        newsworthy=score.newsworthy,
        substantive=score.substantive,
        score=score.score,
        selected=selection.selected,
        selection_chance=selection.chance,
        selected_by=selection.by,
        judged_at=clock.now(),
    )


def add_draft(session: Session, config: VibeBotConfig, draft: Written, persona_version: int) -> uuid.UUID:
    """Keep a draft, refused or not, with its sample; returns its id."""
    now, draft_id = clock.now(), uuid.uuid4()
    session.add(
        Draft(
            draft_id=draft_id,
            bot_id=config.bot_id,
            kind=draft.job.kind,
            content=draft.content,
            state=_state_of(draft),
            reject_rule=draft.refusal.rule if draft.refusal else None,
            reject_reason=draft.refusal.reason if draft.refusal else None,
            attempt=draft.job.attempt,
            arm=draft.hand.arm,
            arm_chance=draft.hand.chance,
            checkpoint_id=draft.hand.checkpoint_id,
            persona_version=persona_version,
            prompt_version=PROMPT_VERSION,
            filter_version=FILTER_VERSION,
            temperature=config.model.temperature,
            max_new_tokens=config.model.max_new_tokens,
            seed=draft.seed,
            finished=draft.sample.finished,
            hour_utc=now.hour,
            weekday=now.weekday(),
            created_at=now,
            **draft.job.facts,
        )
    )
    session.flush()  # the sample's foreign key
    session.add(
        DraftSample(
            draft_id=draft_id,
            bot_id=config.bot_id,
            prompt=draft.job.prompt.text,
            prompt_token_ids=draft.job.prompt.token_ids,
            output_token_ids=draft.sample.token_ids,
            logprobs=draft.sample.logprobs,
        )
    )
    return draft_id


def batch(session: Session, bot_id: str, drafts: Sequence[Written], seconds: float, pointers: Pointers) -> None:
    """How long a batch took and what was served then: what an operator asks when the bot seems slow."""
    events.record(
        session,
        bot_id,
        "batch.written",
        str(pointers.current.checkpoint_id),
        drafts=len(drafts),
        tokens=sum(len(draft.sample.token_ids) for draft in drafts),
        seconds=round(seconds, 3),
    )


def reload(session: Session, bot_id: str, before: uuid.UUID | None, now: uuid.UUID, seconds: float) -> None:
    """How long another checkpoint kept the author from its next batch; when it was done is the event's own time."""
    events.record(session, bot_id, "checkpoint.reloaded", str(now), before=str(before), seconds=round(seconds, 3))


def _state_of(draft: Written) -> DraftState:
    if draft.refusal is not None:
        return DraftState.REJECTED
    return DraftState.OFFERED if draft.job.for_a_person else DraftState.APPROVED
