"""What a process needs to work for its bot: the config, a pool of connections and a client of X, each made once."""

from __future__ import annotations

from functools import cached_property, lru_cache

import structlog

from app import clock, loops, persona
from app.config import Secrets, VibeBotConfig, load_config, load_secrets
from app.x.capabilities import Capabilities
from app.x_interactor import XInteractor
from dbs.models import Bot
from dbs.session import Database


class BotContext:
    """One bot in one process. Nothing is opened before it is used."""

    def __init__(
        self,
        config: VibeBotConfig,
        secrets: Secrets | None = None,
        db: Database | None = None,
        x_interactor: XInteractor | None = None,
    ) -> None:
        self.config = config
        self.secrets = secrets or load_secrets()
        if db is not None:
            self.db = db
        if x_interactor is not None:
            self.x = x_interactor

    @cached_property
    def db(self) -> Database:
        return Database(self.secrets.database_url.get_secret_value())

    @cached_property
    def x(self) -> XInteractor:
        return XInteractor(
            self.config.user_id,
            bot_id=self.config.bot_id,
            live=self.config.live,
            secrets=self.secrets,
            db=self.db,
            budget=self.config.budget,
        )

    def enrol(self) -> None:
        """Give the bot its rows: itself, its loops, its persona, what its tier grants. Safe to run again."""
        with self.db.transaction() as session:
            if session.get(Bot, self.config.bot_id) is None:
                session.add(Bot(bot_id=self.config.bot_id, user_id=self.config.user_id, created_at=clock.now()))
                session.flush()
            loops.ensure(session, self.config)
            persona.ensure(session, self.config)
        Capabilities(self.db, self.config.bot_id, self.config.budget.tier).declare()


@lru_cache(maxsize=1)
def process_context() -> BotContext:
    """The context of the bot that this process was configured for."""
    context = BotContext(load_config())
    context.enrol()
    structlog.get_logger().info("bot.ready", bot_id=context.config.bot_id, live=context.config.live)
    return context
