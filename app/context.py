"""What a process needs to work for its bot: the config, a pool of connections and a client of X, each made once."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import structlog

from app import clock, loops, persona
from app.config import Secrets, VibeBotConfig
from app.loading import load_config, load_secrets, refuse_proof_settings
from app.x.capabilities import Capabilities
from app.x_interactor import XInteractor
from dbs.models import Bot
from dbs.session import Database

if TYPE_CHECKING:
    from app.policy.author import Author


class BotContext:
    """One bot in one process. Nothing is opened before it is used.

    Raises:
        ConfigError: the config asks for what only a proof against a sandbox may do, and X is no sandbox.
    """

    def __init__(
        self,
        config: VibeBotConfig,
        secrets: Secrets | None = None,
        db: Database | None = None,
        x_interactor: XInteractor | None = None,
    ) -> None:
        self.config = config
        self.secrets = secrets or load_secrets()
        refuse_proof_settings(config, self.secrets)
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

    @cached_property
    def author(self) -> Author:
        """The resident model, loaded on first use: seconds, and about a gigabyte for SmolLM2-360M in bf16."""
        # Here, because a process that never writes must never import torch.
        from app.policy.author import Author

        return Author(self.config, self.db)

    @property
    def has_author(self) -> bool:
        """Whether the model is in memory."""
        return "author" in self.__dict__

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
