"""Bots, the people they know, and who belongs to whose community."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from dbs.models.base import Base, bot_id, one_of
from dbs.states import FollowState, HandleState, ReplyPolicy


class Bot(Base):
    __tablename__ = "bots"
    __table_args__ = ({"comment": "One row per bot served by this deployment."},)

    bot_id: Mapped[str] = mapped_column(primary_key=True, comment="Short name of the bot, from its config.")
    user_id: Mapped[str] = mapped_column(comment="X id of the bot's account.")
    handle: Mapped[str | None] = mapped_column(comment="Handle of the account; NULL until X was asked.")
    created_at: Mapped[datetime] = mapped_column(comment="World time of the first start.")
    stopped_at: Mapped[datetime | None] = mapped_column(
        comment="Wall time since which nothing may be posted; NULL while the bot runs."
    )
    stop_reason: Mapped[str | None] = mapped_column(comment="Why it was stopped.")


class Community(Base):
    __tablename__ = "community_db"
    __table_args__ = (
        Index("ix_community_db_handle", func.lower("handle")),
        {
            "comment": "Profiles of X users that the bots know. Users are global; which bot's community they belong to is "
            "in `memberships`. Departure from the seed: `user_id` is X's own id, a text of digits, where the seed "
            "has a uuid, so that a profile is one row however often it is met."
        },
    )

    user_id: Mapped[str] = mapped_column(primary_key=True, comment="X id of the user.")
    handle: Mapped[str] = mapped_column(comment="Handle without @, as last seen; handles change hands, ids do not.")
    followers: Mapped[int | None] = mapped_column(comment="Followers at `fetched_at`; NULL if X did not say.")
    following: Mapped[int | None] = mapped_column(comment="Accounts followed at `fetched_at`; NULL if X did not say.")
    bio: Mapped[str | None] = mapped_column(comment="Profile description.")
    location: Mapped[str | None] = mapped_column(comment="Location as the user wrote it.")
    account_summary: Mapped[str | None] = mapped_column(
        comment="What the user writes about, in the model's words; used in prompts. NULL until written."
    )
    name: Mapped[str | None] = mapped_column(comment="Display name.")
    protected: Mapped[bool | None] = mapped_column(comment="Whether the account's posts are protected.")
    summary_at: Mapped[datetime | None] = mapped_column(comment="World time at which the summary was written.")
    fetched_at: Mapped[datetime] = mapped_column(comment="World time at which X was last asked for the profile.")


class Membership(Base):
    __tablename__ = "memberships"
    __table_args__ = (
        one_of("follow_state", FollowState),
        one_of("reply_policy", ReplyPolicy),
        {"comment": "Which users a bot counts as its community, and how it may treat each."},
    )

    bot_id: Mapped[str] = bot_id(primary_key=True)
    user_id: Mapped[str] = mapped_column(
        ForeignKey("community_db.user_id", ondelete="CASCADE"), primary_key=True, comment="The user."
    )
    follow_state: Mapped[str] = mapped_column(comment="Whether the bot follows the user, wants to, or only met them.")
    follow_reason: Mapped[str | None] = mapped_column(comment="Why following is pending or unavailable.")
    followed_at: Mapped[datetime | None] = mapped_column(comment="World time at which X confirmed the follow.")
    reply_policy: Mapped[str] = mapped_column(
        default=ReplyPolicy.REPLY,
        comment="May the bot reply, only watch, or is the user blocked from its view.",
    )
    opted_out_at: Mapped[datetime | None] = mapped_column(comment="World time at which the user asked it to stop.")
    joined_at: Mapped[datetime] = mapped_column(comment="World time at which the user entered the community.")


class SeedHandle(Base):
    __tablename__ = "seed_handles"
    __table_args__ = (
        one_of("state", HandleState),
        {"comment": "The handles of `accounts_to_follow` and what became of each."},
    )

    bot_id: Mapped[str] = bot_id(primary_key=True)
    handle: Mapped[str] = mapped_column(primary_key=True, comment="Handle as configured, without @.")
    state: Mapped[str] = mapped_column(comment="Whether X knows the handle.")
    user_id: Mapped[str | None] = mapped_column(
        ForeignKey("community_db.user_id", ondelete="SET NULL"),
        comment="The user it belongs to; NULL if unresolved.",
    )
    reason: Mapped[str | None] = mapped_column(comment="What X answered where it could not be resolved.")
    checked_at: Mapped[datetime | None] = mapped_column(comment="World time of the last attempt.")
