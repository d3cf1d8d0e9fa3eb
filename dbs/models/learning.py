"""Checkpoints, the runs that made them, the rewards and choices they learnt from, and the gate's verdicts."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from dbs.models.base import Base, JSONObject, bot_id, new_id, one_of
from dbs.states import CheckpointKind, CheckpointState, RunKind, RunState


class Checkpoint(Base):
    __tablename__ = "checkpoints"
    __table_args__ = (
        one_of("kind", CheckpointKind),
        one_of("state", CheckpointState),
        Index("uq_checkpoints_current", "bot_id", unique=True, postgresql_where=text("is_current")),
        Index("uq_checkpoints_reference", "bot_id", unique=True, postgresql_where=text("is_reference")),
        Index("uq_checkpoints_canary", "bot_id", unique=True, postgresql_where=text("state = 'canary'")),
        Index("ix_checkpoints_bot", "bot_id", "created_at"),
        {
            "comment": "Every set of weights a bot has written with or might. The files are immutable; only pointers move."
        },
    )

    checkpoint_id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id, comment="Ours.")
    bot_id: Mapped[str] = bot_id()
    kind: Mapped[str] = mapped_column(comment="base (no adapter), sft, ppo or dpo.")
    state: Mapped[str] = mapped_column(comment="candidate, canary, served or refused.")
    is_current: Mapped[bool] = mapped_column(default=False, comment="Whether the bot writes with it now.")
    is_reference: Mapped[bool] = mapped_column(default=False, comment="Whether it is the frozen reference and judge.")
    parent_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("checkpoints.checkpoint_id"), comment="The checkpoint it was trained from."
    )
    path: Mapped[str | None] = mapped_column(comment="Directory, relative to the checkpoint root; NULL for base.")
    base_model: Mapped[str] = mapped_column(comment="The base model's repository or directory.")
    base_hash: Mapped[str] = mapped_column(comment="SHA-256 of the base model's weights.")
    manifest: Mapped[JSONObject] = mapped_column(JSONB, comment="The manifest as written beside the files.")
    created_at: Mapped[datetime] = mapped_column(comment="World time.")
    promoted_at: Mapped[datetime | None] = mapped_column(comment="World time at which it last became current.")
    pruned_at: Mapped[datetime | None] = mapped_column(comment="Wall time at which its files were removed.")


class TrainingRun(Base):
    __tablename__ = "training_runs"
    __table_args__ = (
        one_of("kind", RunKind),
        one_of("state", RunState),
        Index("uq_training_runs_running", "bot_id", unique=True, postgresql_where=text("state = 'running'")),
        Index("ix_training_runs_bot", "bot_id", "started_at"),
        {"comment": "Every run of SFT, PPO or DPO. At most one runs per bot; `fence` ends the claims of an older one."},
    )

    run_id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id, comment="Ours.")
    bot_id: Mapped[str] = bot_id()
    kind: Mapped[str] = mapped_column(comment="sft, ppo or dpo.")
    state: Mapped[str] = mapped_column(comment="running, succeeded, stopped by a rule, or failed.")
    fence: Mapped[int] = mapped_column(
        BigInteger, comment="The lease's fence when it began; only the newest may commit."
    )
    started_at: Mapped[datetime] = mapped_column(comment="Wall time.")
    finished_at: Mapped[datetime | None] = mapped_column(comment="Wall time.")
    parent_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("checkpoints.checkpoint_id"), comment="The checkpoint it started from."
    )
    checkpoint_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("checkpoints.checkpoint_id"), comment="The checkpoint it made."
    )
    samples: Mapped[int | None] = mapped_column(comment="Samples it learnt from.")
    progress: Mapped[JSONObject | None] = mapped_column(JSONB, comment="Step, steps and latest metrics while it runs.")
    metrics: Mapped[JSONObject | None] = mapped_column(JSONB, comment="Metrics of the whole run.")
    reason: Mapped[str | None] = mapped_column(comment="Why it stopped or failed.")


class TrainingSample(Base):
    __tablename__ = "training_samples"
    __table_args__ = (
        Index("ix_training_samples_draft", "draft_id"),
        {"comment": "Which drafts a run learnt from, and which it held out for the gate."},
    )

    run_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("training_runs.run_id", ondelete="CASCADE"), primary_key=True, comment="The run."
    )
    draft_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("drafts.draft_id", ondelete="CASCADE"), primary_key=True, comment="The draft."
    )
    bot_id: Mapped[str] = bot_id()
    held_out: Mapped[bool] = mapped_column(comment="True if it was kept for the gate and never trained on.")


class Reward(Base):
    __tablename__ = "rewards"
    __table_args__ = (
        Index("ix_rewards_bot", "bot_id", "computed_at"),
        {
            "comment": "The reward of each draft, with every term of its sum. Once computed for a version it never changes."
        },
    )

    draft_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("drafts.draft_id", ondelete="CASCADE"), primary_key=True, comment="The draft."
    )
    reward_version: Mapped[str] = mapped_column(primary_key=True, comment="Version of the formula and its weights.")
    bot_id: Mapped[str] = bot_id()
    engagement: Mapped[float | None] = mapped_column(
        comment="Weighted counts at the reward age; NULL for a refused draft."
    )
    expected: Mapped[float | None] = mapped_column(comment="What its place would have earned anyway; NULL likewise.")
    reward: Mapped[float] = mapped_column(comment="What learning uses.")
    age_s: Mapped[float | None] = mapped_column(comment="Age at which the counts were read, in seconds.")
    terms: Mapped[JSONObject] = mapped_column(JSONB, comment="Every term of the sum, by name.")
    computed_at: Mapped[datetime] = mapped_column(comment="World time.")


class Preference(Base):
    __tablename__ = "preferences"
    __table_args__ = (
        Index("uq_preferences_target", "bot_id", "target_post_id", unique=True),
        Index("ix_preferences_drafts", "chosen_draft_id", "rejected_draft_id"),
        {"comment": "Which of two drafts for a post a person chose, in co-pilot mode, and what he or she made of it."},
    )

    preference_id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id, comment="Ours.")
    bot_id: Mapped[str] = bot_id()
    target_post_id: Mapped[str] = mapped_column(comment="X id of the post that both answer.")
    chosen_draft_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("drafts.draft_id", ondelete="CASCADE"), comment="The draft chosen; its prompt is the pair's."
    )
    rejected_draft_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("drafts.draft_id", ondelete="CASCADE"), comment="The other one."
    )
    edited_text: Mapped[str | None] = mapped_column(
        comment="What the person made of the chosen draft, in the end at X; NULL where it stands as sampled."
    )
    chosen_by: Mapped[str] = mapped_column(
        comment="Where the choice was made, e.g. console, whose one password does not tell persons apart."
    )
    chosen_at: Mapped[datetime] = mapped_column(comment="Wall time.")
    run_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("training_runs.run_id", ondelete="SET NULL"), comment="The last run that learnt from it."
    )


class GateVerdict(Base):
    __tablename__ = "gate_verdicts"
    __table_args__ = (
        Index("ix_gate_verdicts_checkpoint", "checkpoint_id"),
        {"comment": "What the gate said of a candidate, with its numbers and reasons."},
    )

    verdict_id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id, comment="Ours.")
    bot_id: Mapped[str] = bot_id()
    checkpoint_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("checkpoints.checkpoint_id"), comment="The candidate.")
    incumbent_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("checkpoints.checkpoint_id"), comment="What it was compared with."
    )
    profile: Mapped[str] = mapped_column(comment="The gate's settings: production or demo.")
    passed: Mapped[bool] = mapped_column(comment="Whether it was let through.")
    numbers: Mapped[JSONObject] = mapped_column(JSONB, comment="Estimates, bounds, sample sizes, text measures.")
    reasons: Mapped[list[str]] = mapped_column(JSONB, comment="Why it was refused; empty if passed.")
    samples: Mapped[list[JSONObject]] = mapped_column(JSONB, comment="What it writes to the fixed prompts.")
    judged_at: Mapped[datetime] = mapped_column(comment="World time.")
