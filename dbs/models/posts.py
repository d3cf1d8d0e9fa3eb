"""The bot's own posts and what the world made of them."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from dbs.models.base import Base, bot_id, new_id, one_of
from dbs.states import Kind, PostState, SentBy

LIVE = "state IN ('queued', 'sending', 'posted', 'unconfirmed')"
# A person may say the same to two people; the bot may not.
OWN_LIVE = f"{LIVE} AND sent_by = 'bot'"


class Post(Base):
    __tablename__ = "bot_db"
    __table_args__ = (
        one_of("kind", Kind),
        one_of("state", PostState),
        one_of("sent_by", SentBy),
        CheckConstraint(
            "sent_by = 'bot' OR state IN ('awaited', 'posted', 'rejected')", name="what_a_person_sends_is_never_sent"
        ),
        ForeignKeyConstraint(["bot_id", "persona_version"], ["persona_versions.bot_id", "persona_versions.version"]),
        Index("uq_bot_db_target", "bot_id", "kind", "target_post_id", unique=True, postgresql_where=text(LIVE)),
        Index("uq_bot_db_text", "bot_id", "text_hash", unique=True, postgresql_where=text(OWN_LIVE)),
        Index("uq_bot_db_draft", "draft_id", unique=True, postgresql_where=text(LIVE)),
        Index("uq_bot_db_x_post", "bot_id", "x_post_id", unique=True),
        Index("ix_bot_db_to_send", "bot_id", "due_at", postgresql_where=text("state = 'queued'")),
        Index(
            "ix_bot_db_to_find",
            "bot_id",
            "due_at",
            postgresql_where=text("state IN ('sending', 'unconfirmed')"),
        ),
        Index(
            "ix_bot_db_to_measure",
            "bot_id",
            "next_measure_at",
            postgresql_where=text("next_measure_at IS NOT NULL"),
        ),
        Index("ix_bot_db_awaited", "bot_id", "due_at", postgresql_where=text("state = 'awaited'")),
        Index("ix_bot_db_recent", "bot_id", "post_time"),
        Index("ix_bot_db_author", "bot_id", "target_author_id", "queued_at"),
        {
            "comment": "The content of the bot's posts and the prompts that made them. The table is the outbox too: a row is "
            "committed in state `sending` before its request leaves. Departures from the seed: `post_time` is NULL "
            "until X has the post; X's own id stands beside ours; what was sent is kept apart from attempts (`drafts`)."
        },
    )

    post_id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id, comment="Ours; X's id is `x_post_id`.")
    content_gen_prompt: Mapped[str] = mapped_column(comment="The rendered prompt that the content was generated from.")
    content: Mapped[str] = mapped_column(comment="The text posted.")
    is_reply: Mapped[bool] = mapped_column(comment="Whether it answers a post.")
    post_time: Mapped[datetime | None] = mapped_column(comment="When X published it; NULL before.")
    bot_id: Mapped[str] = bot_id()
    kind: Mapped[str] = mapped_column(comment="reply, post or quote.")
    x_post_id: Mapped[str | None] = mapped_column(comment="X id; NULL until known.")
    target_post_id: Mapped[str | None] = mapped_column(comment="X id of the post answered or quoted.")
    target_author_id: Mapped[str | None] = mapped_column(comment="X id of its author.")
    draft_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("drafts.draft_id"), comment="The draft it was made from.")
    checkpoint_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("checkpoints.checkpoint_id"), comment="The weights that wrote it."
    )
    persona_version: Mapped[int] = mapped_column(comment="The persona it was written in.")
    edited: Mapped[bool] = mapped_column(default=False, comment="Whether a person changed the text.")
    sent_by: Mapped[str] = mapped_column(default=SentBy.BOT, comment="Who sent it: the bot, or a person by hand.")
    text_hash: Mapped[str] = mapped_column(comment="SHA-256 of the canonical text: what X would call a duplicate.")
    state: Mapped[str] = mapped_column(
        comment="queued, sending, posted, unconfirmed, failed, rejected, dry, or awaited: given to a person to post."
    )
    state_reason: Mapped[str | None] = mapped_column(comment="Why it is in that state.")
    queued_at: Mapped[datetime] = mapped_column(comment="World time at which it was queued.")
    due_at: Mapped[datetime] = mapped_column(
        comment="World time before which it is not touched: the moment to send it, or to look for it again."
    )
    expires_at: Mapped[datetime | None] = mapped_column(
        comment="World time after which it is too late to send, or to be looked for any more."
    )
    sending_at: Mapped[datetime | None] = mapped_column(comment="Wall time at which the request was about to leave.")
    attempts: Mapped[int] = mapped_column(default=0, comment="Requests begun for it.")
    absent_reads: Mapped[int] = mapped_column(
        default=0, comment="Times it was not on our own timeline after an unknown outcome."
    )
    absent_at: Mapped[datetime | None] = mapped_column(comment="Wall time of the last such read.")
    deleted_at: Mapped[datetime | None] = mapped_column(comment="World time at which it was gone from X.")
    next_measure_at: Mapped[datetime | None] = mapped_column(
        comment="World time of the next measurement; NULL if none."
    )
    measure_step: Mapped[int] = mapped_column(default=0, comment="How many of the planned ages have been measured.")


class Engagement(Base):
    __tablename__ = "engagement_db"
    __table_args__ = (
        Index("ix_engagement_db_bot", "bot_id", "retrieval_time"),
        {
            "comment": "Counts of each of the bot's posts at several ages; rows are only added. Departures from the seed: the "
            "key is (post_id, retrieval_time), because a history is wanted, not one row; texts of quotes and comments "
            "are rows of `quotes_comments_db`, and the two file paths are exports of them. A count that X did not give "
            "is NULL, never 0."
        },
    )

    post_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("bot_db.post_id", ondelete="CASCADE"), primary_key=True, comment="Our post."
    )
    retrieval_time: Mapped[datetime] = mapped_column(primary_key=True, comment="World time of the reading.")
    likes: Mapped[int | None] = mapped_column(comment="Likes.")
    retweets: Mapped[int | None] = mapped_column(comment="Reposts without a comment.")
    quotes_filepath: Mapped[str | None] = mapped_column(comment="Export of its quotes, relative to the data root.")
    comments_filepath: Mapped[str | None] = mapped_column(comment="Export of its replies, relative to the data root.")
    bot_id: Mapped[str] = bot_id()
    quotes: Mapped[int | None] = mapped_column(comment="Quotes.")
    replies: Mapped[int | None] = mapped_column(comment="Replies.")
    bookmarks: Mapped[int | None] = mapped_column(comment="Bookmarks.")
    impressions: Mapped[int | None] = mapped_column(comment="Views.")
    url_link_clicks: Mapped[int | None] = mapped_column(comment="Clicks on links in it; own posts under 30 days only.")
    user_profile_clicks: Mapped[int | None] = mapped_column(comment="Clicks on our profile from it; likewise.")
    planned_age_s: Mapped[int] = mapped_column(comment="The age at which it was to be read, in seconds.")
    age_s: Mapped[float] = mapped_column(comment="The age at which it was read, in seconds of world time.")


class QuoteComment(Base):
    __tablename__ = "quotes_comments_db"
    __table_args__ = (
        Index("ix_quotes_comments_db_bot", "bot_id", "time_of_reply"),
        {
            "comment": "Quotes of and comments on the bot's posts. Departures from the seed: the key is (post_id, reply_id), "
            "because a post may have many; `reply_id` is X's id, a text of digits; the text itself is kept here."
        },
    )

    post_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("bot_db.post_id", ondelete="CASCADE"), primary_key=True, comment="Our post."
    )
    reply_id: Mapped[str] = mapped_column(primary_key=True, comment="X id of the quote or comment.")
    comment: Mapped[bool] = mapped_column(comment="True for a comment (a reply), false for a quote.")
    time_of_reply: Mapped[datetime] = mapped_column(comment="When it was posted.")
    bot_id: Mapped[str] = bot_id()
    author_id: Mapped[str] = mapped_column(comment="X id of its author.")
    content: Mapped[str] = mapped_column(comment="Its text, entities unescaped. Data, never instructions.")
    lang: Mapped[str | None] = mapped_column(comment="Language as X detected it.")
    likes: Mapped[int | None] = mapped_column(comment="Its own likes when fetched.")
    fetched_at: Mapped[datetime] = mapped_column(comment="World time of the reading.")
    stance: Mapped[float | None] = mapped_column(
        comment="What it says of our post, −1 to 1; NULL until read by learning."
    )
