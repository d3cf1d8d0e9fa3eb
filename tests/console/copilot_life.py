"""What tests of the co-pilot page share: a sandbox that takes no unsummoned reply by its API, and posts in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from factories import BOT, give_offer
from sandbox_server import Server
from sqlalchemy import update

from app import clock
from app.config import Secrets, VibeBotConfig
from app.connectors.community_db import CommunityDB
from app.measuring import measure_due
from app.sandbox.settings import Keys
from app.sighting import find_awaited
from app.x.types import XUser
from app.x_interactor import XInteractor
from dbs.models import Checkpoint, Draft, Post
from dbs.session import Database

DRAFTS = ("Which of them did you see first, and from where?", "I have wondered about that since the mill was closed.")


@dataclass(frozen=True)
class Round:
    """A post of the sandbox and the two drafts for it, and what a bot does about them that lives there."""

    database: Database
    config: VibeBotConfig
    server: Server
    x_post_id: str
    handle: str
    drafts: tuple[Draft, ...]

    def look(self) -> int:
        """The bot looks for what a person was given to post, as if that were due."""
        with self.database.transaction() as session:
            session.execute(update(Post).values(due_at=clock.now()))
        return self._with_x(find_awaited)

    def measure(self) -> int:
        with self.database.transaction() as session:
            session.execute(update(Post).values(next_measure_at=clock.now() - timedelta(seconds=1)))
        return self._with_x(measure_due)

    def _with_x(self, stage) -> int:
        keys = Keys()
        secrets = Secrets(
            x_api_key=keys.api_key, x_api_secret=keys.api_secret, x_access_token=keys.access_token,
            x_access_token_secret=keys.access_token_secret, x_base_url=self.server.base_url,
        )  # fmt: skip
        x = XInteractor(self.config.user_id, bot_id=BOT, live=True, secrets=secrets, db=self.database)
        try:
            return stage(self.database, x, self.config)
        finally:
            x.close()


def begin(database: Database, config: VibeBotConfig, checkpoint: Checkpoint, server: Server, handle: str) -> Round:
    """The newest post of a member, with two drafts for it."""
    member = server.client.get_user(username=handle, user_auth=True).data
    post = server.client.get_users_tweets(member.id, user_auth=True, exclude=["retweets"]).data[0]
    with database.transaction() as session:
        CommunityDB(session, BOT).upsert([XUser(user_id=str(member.id), handle=handle)])
        drafts = give_offer(session, checkpoint, str(post.id), *DRAFTS, author_id=str(member.id), text=post.text)
    return Round(database, config, server, str(post.id), handle, drafts)
