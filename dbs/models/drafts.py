"""What the bot wrote, posted or not, and the persona it wrote in. One draft is one action of the policy."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import REAL, ForeignKey, ForeignKeyConstraint, Index, Integer, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from dbs.models.base import Base, JSONObject, bot_id, new_id, one_of
from dbs.states import Arm, DraftState, Kind, PersonaState


class PersonaVersion(Base):
    __tablename__ = "persona_versions"
    __table_args__ = (
        one_of("state", PersonaState),
        Index("uq_persona_versions_current", "bot_id", unique=True, postgresql_where=text("state = 'current'")),
        {"comment": "Every persona a bot has had. Drafts name the version they were written in."},
    )

    bot_id: Mapped[str] = bot_id(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, comment="1, 2, 3 … per bot.")
    name: Mapped[str] = mapped_column(comment="Name of the persona.")
    description: Mapped[str] = mapped_column(comment="Who it is.")
    tone: Mapped[str] = mapped_column(comment="How it speaks.")
    interests: Mapped[list[str]] = mapped_column(ARRAY(Text), comment="What it posts about.")
    parent_version: Mapped[int | None] = mapped_column(comment="The version it was made from.")
    origin: Mapped[str] = mapped_column(comment="config, person or adaptive.")
    evidence: Mapped[JSONObject | None] = mapped_column(JSONB, comment="What an adaptive revision was based on.")
    state: Mapped[str] = mapped_column(comment="current, superseded, or refused by a person.")
    created_at: Mapped[datetime] = mapped_column(comment="World time.")


class Draft(Base):
    __tablename__ = "drafts"
    __table_args__ = (
        one_of("kind", Kind),
        one_of("state", DraftState),
        one_of("arm", Arm),
        ForeignKeyConstraint(["bot_id", "persona_version"], ["persona_versions.bot_id", "persona_versions.version"]),
        Index("ix_drafts_approved", "bot_id", "created_at", postgresql_where=text("state = 'approved'")),
        Index("ix_drafts_target", "bot_id", "target_post_id"),
        Index("ix_drafts_checkpoint", "bot_id", "checkpoint_id", "created_at"),
        Index("ix_drafts_recent", "bot_id", "created_at"),
        {"comment": "Every attempt at a text, kept whether or not it was posted, with all that learning needs later."},
    )

    draft_id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id, comment="Ours.")
    bot_id: Mapped[str] = bot_id()
    kind: Mapped[str] = mapped_column(comment="reply, post or quote.")
    content: Mapped[str] = mapped_column(
        comment="The text as sampled, outer white space aside; if `edited`, as edited."
    )
    state: Mapped[str] = mapped_column(
        comment="approved, waiting for a person, offered to one, rejected, or used in a post."
    )
    reject_rule: Mapped[str | None] = mapped_column(comment="The rule that refused it, e.g. too_long.")
    reject_reason: Mapped[str | None] = mapped_column(comment="The same in words, with the values.")
    approved_at: Mapped[datetime | None] = mapped_column(
        comment="Wall time at which a person approved it; NULL where only the rules did."
    )
    edited: Mapped[bool] = mapped_column(default=False, comment="Whether a person changed the text.")
    attempt: Mapped[int] = mapped_column(comment="1 for the first draft for a target, 2 for the next …")
    target_post_id: Mapped[str | None] = mapped_column(
        comment="X id of the post answered or quoted; NULL for own posts."
    )
    target_author_id: Mapped[str | None] = mapped_column(comment="X id of its author.")
    topic: Mapped[str | None] = mapped_column(comment="What a post of its own is about; NULL for replies.")
    judgement_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("judgements.judgement_id", ondelete="SET NULL"), comment="The judgement that led to it."
    )
    judge_score: Mapped[float | None] = mapped_column(
        comment="The judgement's score; NULL where nothing was judged: own posts, and answers to who addressed the bot."
    )
    judge_version: Mapped[str | None] = mapped_column(comment="The judgement's version.")
    selection_chance: Mapped[float] = mapped_column(comment="The chance with which the target was selected, 0 to 1.")
    arm: Mapped[str] = mapped_column(comment="The arm it was assigned to by chance: incumbent, canary or reference.")
    arm_chance: Mapped[float] = mapped_column(comment="The chance of that arm, 0 to 1.")
    checkpoint_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("checkpoints.checkpoint_id"), comment="The weights that wrote it."
    )
    persona_version: Mapped[int] = mapped_column(comment="The persona it was written in.")
    prompt_version: Mapped[str] = mapped_column(comment="Version of the prompt's wording.")
    filter_version: Mapped[str] = mapped_column(comment="Version of the rules that approved or refused it.")
    temperature: Mapped[float] = mapped_column(comment="Sampling temperature; no top-k or top-p is ever applied.")
    max_new_tokens: Mapped[int] = mapped_column(comment="Longest output allowed, in tokens.")
    seed: Mapped[int | None] = mapped_column(comment="Seed of the batch's random generator.")
    finished: Mapped[bool] = mapped_column(comment="Whether the model ended the text itself before the length limit.")
    target_likes: Mapped[int | None] = mapped_column(comment="Likes of the target when this was written.")
    target_retweets: Mapped[int | None] = mapped_column(comment="Its reposts then.")
    target_replies: Mapped[int | None] = mapped_column(comment="Its replies then.")
    target_quotes: Mapped[int | None] = mapped_column(comment="Its quotes then.")
    target_impressions: Mapped[int | None] = mapped_column(comment="Its views then.")
    target_age_s: Mapped[float | None] = mapped_column(comment="Its age then, in seconds of world time.")
    target_velocity: Mapped[float | None] = mapped_column(comment="Likes and reposts per hour of its life until then.")
    author_followers: Mapped[int | None] = mapped_column(comment="Followers of its author then.")
    hour_utc: Mapped[int] = mapped_column(comment="Hour of the world's day when this was written, 0 to 23.")
    weekday: Mapped[int] = mapped_column(comment="Day of the week then, Monday is 0.")
    created_at: Mapped[datetime] = mapped_column(comment="World time.")


class DraftSample(Base):
    __tablename__ = "draft_samples"
    __table_args__ = (
        {"comment": "The sampled sequence of each draft, apart from the rows that are read all the time."},
    )

    draft_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("drafts.draft_id", ondelete="CASCADE"), primary_key=True, comment="The draft."
    )
    bot_id: Mapped[str] = bot_id()
    prompt: Mapped[str] = mapped_column(comment="The prompt as rendered by the chat template.")
    prompt_token_ids: Mapped[list[int]] = mapped_column(ARRAY(Integer), comment="Its tokens.")
    output_token_ids: Mapped[list[int]] = mapped_column(
        ARRAY(Integer), comment="The tokens sampled, the end token included where the model ended by itself."
    )
    logprobs: Mapped[list[float]] = mapped_column(
        ARRAY(REAL),
        comment="Natural log-probability of each output token under the tempered softmax, as sampled.",
    )
