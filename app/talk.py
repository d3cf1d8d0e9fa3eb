"""What was said under our posts: quotes and replies, read where a count has moved, stored, and exported as JSONL."""

from __future__ import annotations

import json
import tempfile
import uuid
from pathlib import Path

import structlog
from sqlalchemy.orm import Session

from app import clock, forgotten
from app.config import VibeBotConfig
from app.connectors.community_db import CommunityDB
from app.connectors.quotes_comments_db import QuotesCommentsDB
from app.shared_files import SharedFilesError, shared_files
from app.x.errors import XError
from app.x.types import Counts, Tweet
from app.x_interactor import XInteractor
from dbs.models import Post, QuoteComment, TimelinePost
from dbs.session import Database
from dbs.states import Kind

log = structlog.get_logger()

EXPORTS = "engagement"  # the folder of the exports, under the data root
Talk = list[tuple[Tweet, bool]]  # each with whether it is a comment; a quote otherwise


def read_talk(db: Database, x: XInteractor, config: VibeBotConfig, post: Post, counts: Counts) -> Talk:
    """Quotes and replies that we do not have yet, as (tweet, is a comment); read only where a count has moved."""
    with db.transaction() as session:
        known = QuotesCommentsDB(session, config.bot_id).of_post(post.post_id)
        conversation_id = _conversation(session, config.bot_id, post)
    comments = sum(row.comment for row in known)
    talk: Talk = []
    try:
        if (counts.replies or 0) > comments:
            talk += [(tweet, True) for tweet in x.get_replies(str(post.x_post_id), conversation_id)]
        if (counts.quotes or 0) > len(known) - comments:
            talk += [(tweet, False) for tweet in x.get_quotes(str(post.x_post_id))]
    except XError as error:
        # The counts are in hand and worth keeping; the texts are read at the next age, if X has them then.
        log.info("talk.put_off", post_id=str(post.post_id), reason=str(error))
    return [(tweet, comment) for tweet, comment in talk if tweet.author_id != config.user_id]


def _conversation(session: Session, bot_id: str, post: Post) -> str | None:
    """The conversation that a post of ours stands in: its target's for a reply, its own otherwise."""
    if post.kind != Kind.REPLY or post.target_post_id is None:
        return post.x_post_id
    target = session.get(TimelinePost, (bot_id, post.target_post_id))
    return target.conversation_id if target else None


def store_talk(session: Session, config: VibeBotConfig, post: Post, talk: Talk) -> tuple[str | None, str | None]:
    """Store what was said and export it; returns the seed's quotes_filepath and comments_filepath."""
    subjects = {subject for tweet, _ in talk for subject in (tweet.x_post_id, tweet.author_id)}
    gone = forgotten.among(session, config.bot_id, subjects)
    talk = [(tweet, comment) for tweet, comment in talk if not {tweet.x_post_id, tweet.author_id} & gone]
    CommunityDB(session, config.bot_id).upsert([tweet.author for tweet, _ in talk if tweet.author])
    rows = QuotesCommentsDB(session, config.bot_id)
    rows.upsert(
        [
            QuoteComment(
                post_id=post.post_id,
                reply_id=tweet.x_post_id,
                comment=comment,
                time_of_reply=tweet.created_at,
                bot_id=config.bot_id,
                author_id=tweet.author_id,
                content=tweet.text,
                lang=tweet.lang,
                likes=tweet.counts.likes,
                fetched_at=clock.now(),
            )
            for tweet, comment in talk
        ]
    )
    said = rows.of_post(post.post_id)
    quotes = _export(config, post.post_id, "quotes", [row for row in said if not row.comment])
    comments = _export(config, post.post_id, "comments", [row for row in said if row.comment])
    return quotes, comments


def _export(config: VibeBotConfig, post_id: uuid.UUID, name: str, rows: list[QuoteComment]) -> str | None:
    """Write rows as JSON lines under the data root, or at the store that machines share.

    Returns:
        The path relative to it; None if there are no rows, or the store does not take them.
    """
    if not rows:
        return None
    relative = Path(EXPORTS) / config.bot_id / str(post_id) / f"{name}.jsonl"
    lines = [
        json.dumps(
            {
                "reply_id": row.reply_id,
                "author_id": row.author_id,
                "time_of_reply": row.time_of_reply.isoformat(),
                "content": row.content,
            },
            ensure_ascii=False,
        )
        for row in rows
    ]
    store = shared_files(config)
    if store is None:
        path = Path(config.data_dir) / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        write_aside(path, lines)
        return str(relative)
    # Not kept here: it would have to be cleared on every machine when somebody is forgotten.
    with tempfile.TemporaryDirectory() as scratch:
        write_aside(Path(scratch) / f"{name}.jsonl", lines)
        try:
            store.put(Path(scratch) / f"{name}.jsonl", str(relative))
        except SharedFilesError as error:
            # What was said is in the table, and the next age writes it again; the counts must not wait for the store.
            log.warning("talk.not_exported", post_id=str(post_id), reason=str(error))
            return None
    return str(relative)


def write_aside(path: Path, lines: list[str]) -> None:
    """Write an export aside and rename it, because a reader may have it open."""
    aside = path.with_suffix(".part")
    aside.write_text("\n".join(lines) + "\n", encoding="utf-8")
    aside.replace(path)
