"""Rows that many tests need, with everything that the schema asks for."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from app import clock
from dbs.models import Checkpoint, Draft, DraftSample, PersonaVersion, TimelinePost
from dbs.states import Arm, CheckpointKind, CheckpointState, DraftState, Kind, PersonaState, SeenState, Source

BOT = "explorer"


def give_persona(session: Session) -> PersonaVersion:
    row = PersonaVersion(
        bot_id=BOT,
        version=1,
        name="Explorer",
        description="A test.",
        tone="plain",
        interests=["astronomy"],
        origin="config",
        state=PersonaState.CURRENT,
        created_at=clock.now(),
    )
    session.add(row)
    session.flush()
    return row


def give_checkpoint(session: Session, **changes: Any) -> Checkpoint:
    row = Checkpoint(
        **{
            "bot_id": BOT,
            "kind": CheckpointKind.BASE,
            "state": CheckpointState.SERVED,
            "is_current": True,
            "is_reference": True,
            "base_model": "tiny",
            "base_hash": "0" * 64,
            "manifest": {},
            "created_at": clock.now(),
            **changes,
        }
    )
    session.add(row)
    session.flush()
    return row


def give_seen(session: Session, x_post_id: str, author_id: str = "7", **changes: Any) -> TimelinePost:
    row = TimelinePost(
        **{
            "bot_id": BOT,
            "x_post_id": x_post_id,
            "author_id": author_id,
            "text": f"Post {x_post_id}: the comet passes at 3:40 tonight, low in the east.",
            "created_at": clock.now() - timedelta(minutes=5),
            "conversation_id": x_post_id,
            "source": Source.TIMELINE,
            "summons": False,
            "first_seen_at": clock.now(),
            "state": SeenState.SEEN,
            **changes,
        }
    )
    session.add(row)
    session.flush()
    return row


def give_draft(session: Session, checkpoint: Checkpoint, content: str, **changes: Any) -> Draft:
    now = clock.now()
    row = Draft(
        **{
            "draft_id": uuid.uuid4(),
            "bot_id": BOT,
            "kind": Kind.POST,
            "content": content,
            "state": DraftState.APPROVED,
            "attempt": 1,
            "selection_chance": 1.0,
            "arm": Arm.INCUMBENT,
            "arm_chance": 0.95,
            "checkpoint_id": checkpoint.checkpoint_id,
            "persona_version": 1,
            "prompt_version": "1",
            "filter_version": "1",
            "temperature": 0.7,
            "max_new_tokens": 48,
            "finished": True,
            "hour_utc": now.hour,
            "weekday": now.weekday(),
            "created_at": now,
            **changes,
        }
    )
    session.add(row)
    session.flush()
    session.add(
        DraftSample(
            draft_id=row.draft_id,
            bot_id=BOT,
            prompt="Write a post.",
            prompt_token_ids=[1, 2, 3],
            output_token_ids=[4, 5],
            logprobs=[-0.5, -0.25],
        )
    )
    session.flush()
    return row


def give_offer(
    session: Session, checkpoint: Checkpoint, x_post_id: str, *texts: str, author_id: str = "7", **seen: Any
) -> tuple[Draft, ...]:
    """A post that did not call the bot, with drafts that a person may choose from."""
    give_seen(session, x_post_id, author_id, state=SeenState.DRAFTED, **seen)
    return tuple(
        give_draft(
            session, checkpoint, content, kind=Kind.REPLY, state=DraftState.OFFERED, attempt=attempt,
            target_post_id=x_post_id, target_author_id=author_id,
        )
        for attempt, content in enumerate(texts, 1)
    )  # fmt: skip
