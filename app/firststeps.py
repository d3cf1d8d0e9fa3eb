"""A bot's first config and `.env`, made from answers. What stands in the example is kept, its comments too."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from app.config import VibeBotConfig
from app.loading import parse_config

ROOT = Path(__file__).parents[1]
EXAMPLE, ENV_EXAMPLE = ROOT / "explorer.example.yaml", ROOT / ".env.example"
KEY = re.compile(r"[A-Za-z0-9_-]*")
KEYS = ("X_API_KEY", "X_API_SECRET", "X_ACCESS_TOKEN", "X_ACCESS_TOKEN_SECRET")


class FirstStepsError(ValueError):
    """A file that cannot be made. The message names it and says why."""


@dataclass(frozen=True)
class Answers:
    """What was asked. `keys` are the four of an app at X, by their variables; none leaves their lines empty."""

    user_id: str
    handles: list[str]
    name: str
    description: str
    tone: str
    interests: list[str]
    keys: dict[str, str]


def user_id_of(access_token: str) -> str | None:
    """The numeric id that an OAuth 1.0a access token begins with; None if it is none.

    >>> user_id_of("1000001-aBcD"), user_id_of("aBcD")
    ('1000001', None)
    """
    found = re.match(r"([0-9]{1,19})-.", access_token)
    return found.group(1) if found else None


def words(text: str) -> list[str]:
    """What is listed with commas or line breaks between.

    >>> words("tide pools, open data,  @NASA ")
    ['tide pools', 'open data', '@NASA']
    """
    return [part.strip() for part in re.split(r"[,\n]", text) if part.strip()]


def config_text(answers: Answers) -> tuple[str, VibeBotConfig]:
    """The config as a file, and as it is read. It is a dry one: going live is a decision of its own.

    Raises:
        ConfigError: an answer cannot be used; the message names the setting.
    """
    text = EXAMPLE.read_text(encoding="utf-8").replace("# Copy to explorer.yaml and edit. ", "# ", 1)
    persona = {
        "name": answers.name,
        "description": answers.description,
        "tone": answers.tone,
        "interests": answers.interests,
        "adaptive": False,
    }
    handles = [handle.removeprefix("@") for handle in answers.handles]
    for key, value in {"user_id": answers.user_id, "accounts_to_follow": handles, "persona": persona}.items():
        text = _replaced(text, key, value)
    return text, parse_config(yaml.safe_load(text), source="the answers")


def _replaced(text: str, key: str, value: Any) -> str:
    """The text with another value for a top-level key, which ends where the next line begins at the margin."""
    block = re.compile(rf"^{key}:.*\n(?:[ \t]+.*\n)*", re.MULTILINE)
    new = yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, width=110)
    replaced, count = block.subn(lambda _: new, text)
    if count != 1:
        raise FirstStepsError(f"{EXAMPLE.name}: has {key} {count} times; take it from the repository again")
    return replaced


def env_text(answers: Answers) -> str:
    """The `.env`, with the keys in it.

    Raises:
        FirstStepsError: one of them cannot be a key of X; the message does not show it.
    """
    text = ENV_EXAMPLE.read_text(encoding="utf-8")
    for name in KEYS:
        key = answers.keys.get(name, "")
        if not KEY.fullmatch(key):
            raise FirstStepsError(f"{name}: that is no key of X; copy it again from the developer portal")
        text = re.sub(rf"^{name}=.*$", f"{name}={key}", text, flags=re.MULTILINE)
    return text


def write(answers: Answers, config_file: Path, env_file: Path) -> VibeBotConfig:
    """Write both files or none; neither is ever overwritten.

    Raises:
        FirstStepsError: one of them is there already, or a key cannot be one.
        ConfigError: an answer cannot be used.
    """
    text, config = config_text(answers)
    env = env_text(answers)
    refuse_existing(config_file, env_file)
    _create(env_file, env, mode=0o600)
    try:
        _create(config_file, text, mode=0o644)
    except OSError:
        env_file.unlink()
        raise
    return config


def refuse_existing(*files: Path) -> None:
    """Make sure that none of these files is there.

    Raises:
        FirstStepsError: one is.
    """
    for file in files:
        if file.exists():
            raise FirstStepsError(f"{file} is there already and is left as it is; move it away, or edit it")


def _create(file: Path, text: str, *, mode: int) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as output:
        output.write(text)
