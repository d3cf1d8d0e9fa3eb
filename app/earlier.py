"""What the bot's account posted before the bot wrote for it, as its X archive has it: read by both halves."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.text import text_hash, without_addressees
from dbs.models import EarlierPost


@dataclass(frozen=True)
class Earlier:
    """All of it in a few numbers. A count is None if the archive gave it of no post."""

    posts: int
    likes: int | None
    retweets: int | None

    def __str__(self) -> str:
        earned = ((self.likes, "likes"), (self.retweets, "reposts"))
        counts = "".join(f", {count:,} {name}" for count, name in earned if count is not None)
        return f"{self.posts:,} earlier posts of the account, from its archive{counts}"


def texts(session: Session, bot_id: str, limit: int) -> list[str]:
    """Texts of the newest earlier posts, the newest first, without the handles that X puts in front of a reply."""
    rows = session.scalars(
        select(EarlierPost.content)
        .where(EarlierPost.bot_id == bot_id)
        .order_by(EarlierPost.posted_at.desc())
        .limit(limit)
    )
    return [without_addressees(text) for text in rows]


def like(session: Session, bot_id: str, text: str, target_post_id: str | None) -> str | None:
    """X id of the earlier post that says the same, or answers the same; None if there is none."""
    same = EarlierPost.text_hash == text_hash(text)
    if target_post_id is not None:
        same = same | (EarlierPost.target_post_id == target_post_id)
    return session.scalars(
        select(EarlierPost.x_post_id)
        .where(EarlierPost.bot_id == bot_id, same)
        .order_by(EarlierPost.posted_at.desc())
        .limit(1)
    ).one_or_none()


def summary(session: Session, bot_id: str) -> Earlier | None:
    """The earlier posts in a few numbers; None if none is known."""
    posts, likes, retweets = session.execute(
        select(func.count(), func.sum(EarlierPost.likes), func.sum(EarlierPost.retweets)).where(
            EarlierPost.bot_id == bot_id
        )
    ).one()
    return Earlier(posts, likes, retweets) if posts else None
