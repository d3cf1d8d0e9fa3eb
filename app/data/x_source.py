"""X as a source: the posts of the accounts that the bot follows, with the posts that they answer."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from sqlalchemy import select

from app.config import VibeBotConfig
from app.connectors.community_db import CommunityDB
from app.data.records import SourcePost
from app.data.sources import SourcePage
from app.x.endpoints import Endpoint
from app.x.errors import Gone, NotAllowed
from app.x.prices import charge_for
from app.x.requester import BATCH
from app.x.types import Page, Tweet
from app.x_interactor import XInteractor
from dbs.models import TimelinePost
from dbs.session import Database
from dbs.states import SourceState

PAGE = BATCH


class Parent(NamedTuple):
    """A post that another answers."""

    author_id: str
    text: str


class XSource:
    """Pages of a hundred posts, from the newest that is older than `before_id` back to where X ends.

    The cursor is the id of the oldest post read, which no new post can move and which does not expire.
    """

    def __init__(self, db: Database, x: XInteractor, config: VibeBotConfig, before_id: str | None) -> None:
        self._db, self._x, self._config = db, x, config
        self._before_id = before_id
        self._charge = charge_for(Endpoint.USER_POSTS, config.budget)

    def accounts(self) -> list[str]:
        with self._db.transaction() as session:
            return [member.user_id for member in CommunityDB(session, self._config.bot_id).members()]

    def page_usd(self) -> float:
        pages = 2 if self._config.sft.read_parents else 1
        return float(self._charge.of(PAGE, 0)) * pages

    def page(self, account: str, cursor: str | None, read: int) -> SourcePage:
        wanted = min(PAGE, self._config.sft.posts_per_account - read)
        try:
            tweets, last = self._tweets(account, cursor or self._before_id, wanted)
        except (Gone, NotAllowed) as error:
            state = SourceState.PROTECTED if isinstance(error, NotAllowed) else SourceState.GONE
            return SourcePage([], None, state, str(error))
        parents, paid = self._parents(tweets) if self._config.sft.read_parents else ({}, 0)
        posts = [_post(tweet, parents) for tweet in tweets]
        usd = float(self._charge.of(len(tweets) + paid, 0))
        done = not tweets or last.next_token is None or read + len(tweets) >= self._config.sft.posts_per_account
        oldest = min((tweet.x_post_id for tweet in tweets), key=int, default=None)
        return SourcePage(posts, None if done else oldest, read=len(tweets), usd=usd)

    def _tweets(self, account: str, until_id: str | None, wanted: int) -> tuple[list[Tweet], Page]:
        """The next posts; a page of nothing but reposts that were left out is passed over."""
        last = Page([], None)
        for last in self._x.get_user_posts(account, wanted, until_id=until_id, reposts=self._config.sft.read_reposts):
            if last.tweets:
                break
        return last.tweets, last

    def _parents(self, tweets: list[Tweet]) -> tuple[dict[str, Parent], int]:
        """The posts that these answer, by id, and how many of them X was paid for."""
        texts = {tweet.x_post_id: Parent(tweet.author_id, tweet.text) for tweet in tweets}
        wanted = {tweet.in_reply_to_post_id for tweet in tweets if tweet.in_reply_to_post_id} - texts.keys()
        if wanted:
            with self._db.transaction() as session:
                stored = session.execute(
                    select(TimelinePost.x_post_id, TimelinePost.author_id, TimelinePost.text).where(
                        TimelinePost.bot_id == self._config.bot_id, TimelinePost.x_post_id.in_(wanted)
                    )
                )
                texts |= {row.x_post_id: Parent(row.author_id, row.text) for row in stored}
        missing = sorted(wanted - texts.keys())
        if not missing:
            return texts, 0
        found, _gone = self._x.get_posts(missing)
        return texts | {tweet.x_post_id: Parent(tweet.author_id, tweet.text) for tweet in found.values()}, len(found)


def price_of_posts(config: VibeBotConfig, posts: int) -> Decimal:
    """What reading so many posts of others costs, in US dollars."""
    return charge_for(Endpoint.USER_POSTS, config.budget).of(posts, 0)


def _post(tweet: Tweet, parents: dict[str, Parent]) -> SourcePost:
    parent = parents.get(tweet.in_reply_to_post_id or "")
    return SourcePost(
        post_id=tweet.x_post_id,
        author_id=tweet.author_id,
        text=tweet.text,
        created_at=tweet.created_at,
        lang=tweet.lang,
        in_reply_to_post_id=tweet.in_reply_to_post_id,
        parent_text=parent.text if parent else None,
        reposted=tweet.reposted_post_id is not None,
        parent_author_id=parent.author_id if parent else None,
    )
