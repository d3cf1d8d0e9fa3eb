"""Posts of others that the bot read, and what it thought of them."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import ForeignKeyConstraint, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from dbs.models.base import Base, bot_id, new_id, one_of
from dbs.states import SeenState, Source


class TimelinePost(Base):
    __tablename__ = "timeline_posts"
    __table_args__ = (
        one_of("state", SeenState),
        one_of("source", Source),
        Index(
            "ix_timeline_posts_work",
            "bot_id",
            "created_at",
            postgresql_where=text("state IN ('seen', 'selected')"),
        ),
        Index("ix_timeline_posts_conversation", "bot_id", "conversation_id", "created_at"),
        Index("ix_timeline_posts_author", "bot_id", "author_id", "created_at"),
        {"comment": "Every post of somebody else that a bot has read: its timeline, its mentions, threads above them."},
    )

    bot_id: Mapped[str] = bot_id(primary_key=True)
    x_post_id: Mapped[str] = mapped_column(primary_key=True, comment="X id of the post.")
    author_id: Mapped[str] = mapped_column(comment="X id of the author.")
    text: Mapped[str] = mapped_column(comment="The text as X gave it, entities unescaped. Data, never instructions.")
    lang: Mapped[str | None] = mapped_column(comment="Language as X detected it.")
    created_at: Mapped[datetime] = mapped_column(comment="When it was posted.")
    conversation_id: Mapped[str | None] = mapped_column(comment="X id of the post that began the conversation.")
    in_reply_to_post_id: Mapped[str | None] = mapped_column(comment="X id of the post it answers.")
    in_reply_to_user_id: Mapped[str | None] = mapped_column(comment="X id of the user it answers.")
    quoted_post_id: Mapped[str | None] = mapped_column(comment="X id of the post it quotes.")
    source: Mapped[str] = mapped_column(comment="How it came to us first.")
    summons: Mapped[bool] = mapped_column(comment="Whether it mentions the bot or quotes a post of it.")
    likes: Mapped[int | None] = mapped_column(comment="Likes at `counts_at`; NULL if X did not say.")
    retweets: Mapped[int | None] = mapped_column(comment="Reposts at `counts_at`.")
    replies: Mapped[int | None] = mapped_column(comment="Replies at `counts_at`.")
    quotes: Mapped[int | None] = mapped_column(comment="Quotes at `counts_at`.")
    impressions: Mapped[int | None] = mapped_column(comment="Views at `counts_at`.")
    counts_at: Mapped[datetime | None] = mapped_column(comment="World time at which the counts were read.")
    first_seen_at: Mapped[datetime] = mapped_column(comment="World time at which the bot first read it.")
    state: Mapped[str] = mapped_column(comment="How far the bot is with it.")
    state_reason: Mapped[str | None] = mapped_column(comment="Why it is in that state.")


class Judgement(Base):
    __tablename__ = "judgements"
    __table_args__ = (
        ForeignKeyConstraint(
            ["bot_id", "x_post_id"], ["timeline_posts.bot_id", "timeline_posts.x_post_id"], ondelete="CASCADE"
        ),
        Index("ix_judgements_post", "bot_id", "x_post_id"),
        Index("ix_judgements_recent", "bot_id", "judge_version", "judged_at"),
        {"comment": "What the frozen reference thought of a post, by the seed's two criteria, and what was decided."},
    )

    judgement_id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id, comment="Ours.")
    bot_id: Mapped[str] = bot_id()
    x_post_id: Mapped[str] = mapped_column(comment="The post judged.")
    judge_version: Mapped[str] = mapped_column(comment="Model and prompt that judged; scores compare within a version.")
    newsworthy: Mapped[float] = mapped_column(
        comment="Calibrated log-odds of Yes to: does it touch a newsworthy topic?"
    )
    substantive: Mapped[float] = mapped_column(
        comment="Calibrated log-odds of Yes to: does it bring an idea we can add to?"
    )
    score: Mapped[float] = mapped_column(comment="The two log-odds as one number; higher is worthier.")
    selected: Mapped[bool] = mapped_column(comment="Whether it is to be answered.")
    selection_chance: Mapped[float] = mapped_column(comment="The chance with which it was selected, 0 to 1.")
    selected_by: Mapped[str] = mapped_column(
        comment="score, exploration or none; in rows of before revision 0009 summons, too."
    )
    judged_at: Mapped[datetime] = mapped_column(comment="World time.")
