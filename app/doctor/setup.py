"""The set-up under examination: what is asked for, and what earlier checks have found for later ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from app.config import Secrets, VibeBotConfig
from app.loading import WrongSetting

if TYPE_CHECKING:
    from app.policy.base_files import BaseFiles
    from app.x.types import Welcome
    from app.x_interactor import XInteractor
    from dbs.session import Database


@dataclass
class Setup:
    """One deployment, as it can be seen from this machine.

    Attributes:
        config_file: the bot's config.
        running: whether the services are expected to run.
        config, secrets, database, x, welcome, model_directory, model_files: there once the check that finds them has
            passed.
        is_enrolled: whether the bot has its rows, so that requests to X can be booked.
        to_fetch: bytes of the base model that are yet to be fetched.
    """

    config_file: Path
    running: bool = False
    config: VibeBotConfig = field(init=False)
    secrets: Secrets = field(init=False)
    database: Database | None = None
    is_enrolled: bool = False
    x: XInteractor | None = None
    welcome: Welcome = field(init=False)
    model_directory: Path = field(init=False)
    model_files: BaseFiles = field(init=False)
    to_fetch: int = 0

    def may_lack(self, variable: str) -> bool:
        """Whether a server may be missing: nobody has named one, and nobody says that the services run."""
        return not self.running and variable not in self.secrets.model_fields_set

    @property
    def db(self) -> Database:
        """The database, for checks that need it to answer."""
        if self.database is None:
            raise LookupError("no database has been found yet")
        return self.database

    def close(self) -> None:
        """Close what the checks have opened."""
        if self.x is not None:
            self.x.close()
        if self.database is not None:
            self.database.close()


def wrong_from(setting: str, message: str) -> WrongSetting:
    """A message of the form `SETTING: problem; remedy`, or `problem; remedy`, taken apart."""
    problem, _, remedy = message.removeprefix(f"{setting}: ").partition("; ")
    return WrongSetting(setting, problem, remedy)
