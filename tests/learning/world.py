"""Rows of a bot that has lived a little: a persona, a base checkpoint, drafts, posts and what they earned."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from app.config import VibeBotConfig
from app.loading import parse_config
from app.policy import registry
from app.text import text_hash
from dbs.models import (
    Checkpoint,
    Draft,
    DraftSample,
    Engagement,
    PersonaVersion,
    Post,
    QuoteComment,
)
from dbs.session import Database
from dbs.states import Arm, DraftState, Kind, PersonaState, PostState

BOT = "explorer"
BASE_HASH = "ab" * 32
NOW = datetime(2026, 3, 3, 12, tzinfo=UTC)


def config(tmp_path: Path, model: str = "tiny", **ppo) -> VibeBotConfig:
    return parse_config(
        {
            "user_id": "1000001",
            "accounts_to_follow": ["ada"],
            "persona": {"name": "Nova", "description": "An engineer.", "tone": "warm", "interests": ["trams"]},
            "model": {
                "hf_repo_id": model,
                "checkpoint_dir": str(tmp_path / "checkpoints"),
                "device": "cpu",
                "dtype": "float32",
                "max_new_tokens": 12,
            },
            "ppo": ppo,
            "data_dir": str(tmp_path / "data"),
        }
    )


@dataclass
class World:
    database: Database
    base_hash: str = BASE_HASH
    base_id: uuid.UUID = field(init=False)

    def __post_init__(self) -> None:
        with self.database.transaction() as session:
            session.add(
                PersonaVersion(
                    bot_id=BOT, version=1, name="Nova", description="An engineer.", tone="warm", interests=["trams"],
                    origin="config", state=PersonaState.CURRENT, created_at=NOW,
                )
            )  # fmt: skip
            self.base_id = registry.ensure_base(session, BOT, "tiny", self.base_hash).checkpoint_id

    def draft(self, *, checkpoint_id: uuid.UUID | None = None, sample: dict | None = None, **changes) -> uuid.UUID:
        facts = {
            "draft_id": uuid.uuid4(),
            "bot_id": BOT,
            "kind": Kind.REPLY,
            "content": f"a text {uuid.uuid4().hex}",
            "state": DraftState.USED,
            "attempt": 1,
            "target_post_id": uuid.uuid4().hex,
            "target_author_id": "7",
            "selection_chance": 1.0,
            "arm": Arm.INCUMBENT,
            "arm_chance": 1.0,
            "checkpoint_id": checkpoint_id or self.base_id,
            "persona_version": 1,
            "prompt_version": "1",
            "filter_version": "1",
            "temperature": 0.7,
            "max_new_tokens": 12,
            "finished": True,
            "target_likes": 3,
            "target_retweets": 1,
            "target_replies": 0,
            "target_quotes": 0,
            "target_age_s": 3600.0,
            "target_velocity": 4.0,
            "author_followers": 100,
            "hour_utc": 12,
            "weekday": 1,
            "created_at": NOW - timedelta(days=2),
        } | changes
        with self.database.transaction() as session:
            session.add(Draft(**facts))
            session.flush()
            logged = {"prompt": "p", "prompt_token_ids": [5], "output_token_ids": [6], "logprobs": [-1.0]}
            session.add(DraftSample(draft_id=facts["draft_id"], bot_id=BOT, **(logged | (sample or {}))))
        return facts["draft_id"]

    def post(self, draft_id: uuid.UUID, *, likes: int | None = None, age_h: float = 24, **changes) -> uuid.UUID:
        with self.database.transaction() as session:
            draft = session.get_one(Draft, draft_id)
            post = Post(
                **{
                    "post_id": uuid.uuid4(),
                    "content_gen_prompt": "p",
                    "content": draft.content,
                    "is_reply": draft.kind == Kind.REPLY,
                    "post_time": draft.created_at,
                    "bot_id": BOT,
                    "kind": draft.kind,
                    "x_post_id": uuid.uuid4().hex,
                    "target_post_id": draft.target_post_id,
                    "target_author_id": draft.target_author_id,
                    "draft_id": draft_id,
                    "checkpoint_id": draft.checkpoint_id,
                    "persona_version": 1,
                    "edited": False,
                    "text_hash": text_hash(draft.content),
                    "state": PostState.POSTED,
                    "queued_at": draft.created_at,
                    "due_at": draft.created_at,
                }
                | changes
            )
            session.add(post)
            session.flush()
            post_id = post.post_id
        if likes is not None:
            self.measure(post_id, age_h, likes=likes, retweets=0, quotes=0, replies=0)
        return post_id

    def measure(self, post_id: uuid.UUID, age_h: float, planned_h: float | None = None, **counts) -> None:
        with self.database.transaction() as session:
            posted = session.get_one(Post, post_id).post_time
            session.add(
                Engagement(
                    post_id=post_id,
                    bot_id=BOT,
                    retrieval_time=posted + timedelta(hours=age_h),
                    planned_age_s=round((planned_h or age_h) * 3600),
                    age_s=age_h * 3600,
                    **counts,
                )
            )

    def answer(
        self, post_id: uuid.UUID, text: str, *, comment: bool = True, author: str = "9", lang: str = "en"
    ) -> None:
        with self.database.transaction() as session:
            session.add(
                QuoteComment(
                    post_id=post_id, reply_id=uuid.uuid4().hex, comment=comment, time_of_reply=NOW, bot_id=BOT,
                    author_id=author, content=text, lang=lang, fetched_at=NOW,
                )
            )  # fmt: skip

    def checkpoint(self, checkpoint_id: uuid.UUID) -> Checkpoint:
        with self.database.transaction() as session:
            return session.get_one(Checkpoint, checkpoint_id)
