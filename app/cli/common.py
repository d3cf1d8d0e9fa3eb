"""What the commands share: the option that names the config, and the bot it describes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from app.context import BotContext

Config = Annotated[Path, typer.Option("--config", envvar="EXPLORER_CONFIG", help="The bot's config.")]
DEFAULT_CONFIG = Path("explorer.yaml")


def bot(config: Path) -> BotContext:
    """The context of the configured bot, with its rows in place."""
    from app.context import BotContext
    from app.loading import load_config

    context = BotContext(load_config(config))
    context.enrol()
    return context
