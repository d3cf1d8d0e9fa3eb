"""Whoever asks the bot to stop is left alone, and nobody else is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from factories import BOT
from sqlalchemy import select

from app import clock, conduct
from app.config import VibeBotConfig
from app.optout import asks_to_stop
from app.reading import store_posts
from app.x.types import Tweet, XUser
from dbs.models import Bot, Event, Membership, TimelinePost
from dbs.session import Database
from dbs.states import SeenState, Source

US = "1000001"


@pytest.mark.parametrize(
    "text",
    [
        "stop",
        "@explorer_bot STOP!",
        "@explorer_bot @ada please stop",
        "Stop it, bot.",
        "unsubscribe",
        "opt-out please",
        "@explorer_bot Could you stop replying to my posts?",
        "Don't reply to me again.",
        "do not tag us",
        "I said leave me alone",
        "quit bothering people",
        "will you stop talking to me",
        "go away bot",
        "Stopp bitte",
        "Lass mich in Ruhe!",
        "Déjame en paz",
        "Laissez-moi tranquille",
    ],
)
def test_who_asks_to_be_left_alone_is_understood(text: str) -> None:
    assert asks_to_stop(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The tram stop on Mill Road is closed.",
        "Do not stop now, it gets interesting.",
        "Stop signs are cheaper than lights, are they not?",
        "Why did the buses stop running at nine?",
        "I do not reply to everybody either.",
        "Nobody should leave their bike alone there.",
        "We had to go away for a week.",
        "Basta pesto is the best.",
        "This is why people stop talking about fares.",
    ],
)
def test_talk_is_no_request(text: str) -> None:
    assert not asks_to_stop(text)


def mention(x_post_id: str, author_id: str, text: str, *, of: tuple[str, ...] = (US,)) -> Tweet:
    author = XUser(user_id=author_id, handle=f"user{author_id}", name="A user")
    return Tweet(x_post_id, author_id, text, clock.now(), mentioned_user_ids=of, author=author)


def store(database: Database, config: VibeBotConfig, *tweets: Tweet) -> None:
    with database.transaction() as session:
        store_posts(session, config, tweets, Source.MENTION)


def test_a_request_is_honoured_at_once_and_for_ever(database: Database, bot: Bot, config: VibeBotConfig) -> None:
    store(
        database,
        config,
        mention("11", "7", "@explorer_bot stop"),
        mention("12", "8", "@explorer_bot What does the tram stop cost?"),
        mention("13", "9", "stop", of=()),  # said to somebody else
        mention("14", US, "@explorer_bot stop"),  # our own
    )
    store(database, config, replace(mention("21", "7", "stop"), created_at=clock.now() + timedelta(days=1)))
    with database.transaction() as session:
        asked = {row.user_id: row.opted_out_at for row in session.scalars(select(Membership))}
        posts = {row.x_post_id: row for row in session.scalars(select(TimelinePost))}
        assert {user for user, at in asked.items() if at is not None} == {"7"}
        assert asked["7"] == posts["11"].created_at  # the first time counts
        assert conduct.refusal(session, config, posts["11"]).rule == "opted_out"
        assert conduct.refusal(session, config, posts["21"]).rule == "opted_out"  # though it addresses us again
        assert conduct.refusal(session, config, posts["12"]) is None
        assert posts["11"].state == SeenState.SEEN  # stored, as a thread cannot be read without it
        noted = session.scalars(select(Event).where(Event.kind == "member.opted_out")).one()
        assert (noted.bot_id, noted.subject, noted.detail["post"]) == (BOT, "7", "11")
