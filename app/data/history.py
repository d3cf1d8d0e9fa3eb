"""The posts of one's own archive as history of the bot: known to it, and nothing that it would learn from.

They are in `earlier_posts`, and not in `bot_db`: a row there says which weights, persona and prompt made a text, and
these were made by none. The log-probabilities that PPO needs of what it learns from do not exist for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog
from sqlalchemy import func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app import clock, events, forgotten
from app.config import VibeBotConfig
from app.data.sources import ArchiveSource, OwnPost
from app.text import text_hash, without_addressees
from app.x.snowflake import snowflake_time
from dbs.models import EarlierPost, Post
from dbs.session import Database

log = structlog.get_logger()

ROWS_AT_ONCE = 500


def take_in(db: Database, config: VibeBotConfig, archive: ArchiveSource) -> int:
    """Store the posts of an archive with what they earned, if it is the archive of the bot's own account.

    Reposts, posts that the bot made, and posts that were forgotten are left out. May be done again: a post is stored
    once, and has the counts of the archive that was read last.

    Returns:
        How many posts are new, or have other counts now. If the archive is of somebody else, 0, and an event says so.
    """
    if (reason := why_not(config, archive)) is not None:
        _tell(db, config, "history.skipped", reason=reason)
        return 0
    posts = [own for own in archive.own_posts() if not own.post.reposted]
    changed = 0
    for some in _batches(posts):
        with db.transaction() as session:
            changed += _store(session, config, some)
    if changed:
        _tell(db, config, "history.taken_in", posts=changed, of=len(posts))
    return changed


def why_not(config: VibeBotConfig, archive: ArchiveSource) -> str | None:
    """Why an archive is no history of the bot; None if it is."""
    if archive.account is None:
        return f"{archive.path} does not say whose it is: it has no data/account.js with an accountId"
    if archive.account != config.user_id:
        return f"{archive.path} is of the account {archive.account}, and user_id is {config.user_id}"
    return None


def _store(session: Session, config: VibeBotConfig, posts: Sequence[OwnPost]) -> int:
    ids = [own.post.post_id for own in posts]
    left_out = forgotten.among(session, config.bot_id, ids) | set(
        session.scalars(select(Post.x_post_id).where(Post.bot_id == config.bot_id, Post.x_post_id.in_(ids)))
    )
    # Once each: the parts of an archive may overlap.
    rows = {own.post.post_id: _row(config.bot_id, own) for own in posts if own.post.post_id not in left_out}
    if not rows:
        return 0
    statement = insert(EarlierPost).values(list(rows.values()))
    new = statement.excluded
    # What an archive does not say of a post, another may have said.
    likes, retweets = func.coalesce(new.likes, EarlierPost.likes), func.coalesce(new.retweets, EarlierPost.retweets)
    changed = session.scalars(
        statement.on_conflict_do_update(
            index_elements=["bot_id", "x_post_id"],
            set_={"likes": likes, "retweets": retweets, "read_at": new.read_at},
            where=or_(EarlierPost.likes.is_distinct_from(likes), EarlierPost.retweets.is_distinct_from(retweets)),
        ).returning(EarlierPost.x_post_id)
    ).all()
    return len(changed)


def _row(bot_id: str, own: OwnPost) -> dict[str, Any]:
    return {
        "bot_id": bot_id,
        "x_post_id": own.post.post_id,
        "content": own.post.text,
        # As the bot writes: X puts those whom a reply answers in front of it.
        "text_hash": text_hash(without_addressees(own.post.text)),
        "posted_at": own.post.created_at or snowflake_time(own.post.post_id),
        "lang": own.post.lang,
        "target_post_id": own.post.in_reply_to_post_id,
        "likes": own.likes,
        "retweets": own.retweets,
        "read_at": clock.wall_now(),
    }


def _batches(posts: Sequence[OwnPost]) -> list[Sequence[OwnPost]]:
    return [posts[first : first + ROWS_AT_ONCE] for first in range(0, len(posts), ROWS_AT_ONCE)]


def _tell(db: Database, config: VibeBotConfig, kind: str, **detail: Any) -> None:
    with db.transaction() as session:
        events.record(session, config.bot_id, kind, **detail)
    log.info(kind, **detail)
