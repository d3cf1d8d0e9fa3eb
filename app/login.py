"""Letting the bot into its account with OAuth 2.0: from a person's consent at X to tokens that all workers share."""

from __future__ import annotations

from app.context import BotContext
from app.loading import ConfigError, WrongSetting
from app.x import errors
from app.x.authorization import Bearer, check_credentials
from app.x.capabilities import Capabilities
from app.x.oauth2 import LOGIN, Consent, LoginRefused, Pair
from app.x.tokens import TokenStore
from app.x.types import XUser
from app.x_interactor import XInteractor


def begin(bot: BotContext, redirect_uri: str) -> Consent:
    """A consent to ask for; its `address` is X's page.

    Raises:
        ConfigError: X_CLIENT_ID or X_CLIENT_SECRET is missing.
    """
    if not bot.secrets.uses_oauth2:
        remedy = "take both from the app's page on console.x.com; with the four keys of OAuth 1.0a no login is needed"
        names = "X_CLIENT_ID, X_CLIENT_SECRET"
        raise ConfigError(f"environment: {names} missing; {remedy}", [WrongSetting(names, "missing", remedy)])
    check_credentials(bot.config.user_id, bot.secrets)
    return Consent(bot.secrets, redirect_uri)


def admit(bot: BotContext, pair: Pair) -> XUser:
    """Make sure that the tokens are the bot's account's, and only then store them.

    Raises:
        LoginRefused: they are another account's, or X does not say whose.
    """
    user = _owner(bot, pair)
    if user.user_id != bot.config.user_id:
        raise LoginRefused(
            f"the consent was given by @{user.handle}, {user.user_id}, but user_id is {bot.config.user_id}; log in to "
            f"X as the bot's account and {LOGIN} again, or correct user_id"
        )
    secret = bot.secrets.x_client_secret
    if secret is None:
        raise LoginRefused("X_CLIENT_SECRET is missing, and the tokens are sealed with it")
    TokenStore(bot.db, bot.config.bot_id, bot.config.user_id, secret).save(pair)
    Capabilities(bot.db, bot.config.bot_id, bot.config.budget.tier).mend()
    return user


def _owner(bot: BotContext, pair: Pair) -> XUser:
    config = bot.config
    x = XInteractor(
        config.user_id,
        bot_id=config.bot_id,
        secrets=bot.secrets,
        db=bot.db,
        budget=config.budget,
        authorization=Bearer(pair.access),
    )
    try:
        return x.me()
    except errors.XError as error:
        raise LoginRefused(f"X does not say whose tokens these are ({error}); {LOGIN} again") from None
    finally:
        x.close()
