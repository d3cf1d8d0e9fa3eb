"""Reading the config and the secrets, and saying what is wrong with them.

`load_config()` reads `explorer.yaml` (or the file named by `EXPLORER_CONFIG`), `load_secrets()` the environment. An
unknown key or a wrong value is a `ConfigError` whose message names field, value and remedy.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import yaml
from pydantic import BaseModel, ValidationError

from app import clock, environment
from app.config import Secrets, VibeBotConfig

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True)
class WrongSetting:
    """One setting that cannot be used: its name, what is wrong with it, what to do."""

    setting: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.setting}: {self.problem}; {self.remedy}"


class ConfigError(ValueError):
    """A config or an environment that cannot be used. The message names field, value and remedy.

    Attributes:
        wrong: the same setting by setting, for whoever shows them one by one.
    """

    def __init__(self, message: str, wrong: Sequence[WrongSetting] = ()) -> None:
        super().__init__(message)
        self.wrong = tuple(wrong)


def config_path() -> Path:
    """Where the config is looked for: `EXPLORER_CONFIG`, or `explorer.yaml` in the working directory."""
    return Path(os.environ.get("EXPLORER_CONFIG", "explorer.yaml"))


def load_config(path: str | Path | None = None) -> VibeBotConfig:
    """Read and check a config file.

    Raises:
        ConfigError: the file is missing, is not YAML, or a field is unknown, missing or wrong.
    """
    environment.adopt()
    file = Path(path) if path is not None else config_path()
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        remedy = "copy explorer.example.yaml there, or set EXPLORER_CONFIG to the file you use"
        raise ConfigError(
            f"no config at {file}: {remedy}", [WrongSetting("EXPLORER_CONFIG", f"no config at {file}", remedy)]
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        problem = f"cannot be read as YAML: {error}"
        wrong = WrongSetting(str(file), " ".join(problem.split()), "correct it there, or start from the example again")
        raise ConfigError(f"{file} {problem}", [wrong]) from error
    if not isinstance(raw, dict):
        held = WrongSetting(str(file), f"holds {type(raw).__name__}, not settings", "start from explorer.example.yaml")
        raise ConfigError(f"{file} {held.problem}; {held.remedy}", [held])
    return parse_config(raw, source=str(file))


def parse_config(raw: dict[str, Any], source: str = "config") -> VibeBotConfig:
    """Check settings that are already read.

    Raises:
        ConfigError: a field is unknown, missing or wrong; the message has a line for each.
    """
    try:
        return VibeBotConfig.model_validate(raw)
    except ValidationError as error:
        wrong = explain(error)
        lines = "\n  ".join(map(str, wrong))
        raise ConfigError(f"{source} has {len(wrong)} wrong setting(s):\n  {lines}", wrong) from None


def load_secrets() -> Secrets:
    """Read secrets and addresses, and check `EXPLORER_CLOCK` with them.

    Raises:
        ConfigError: naming the variable and the remedy, never a secret's value.
    """
    environment.adopt()
    try:
        clock.world()
        return Secrets()
    except ValidationError as error:
        names = ", ".join(".".join(map(str, item["loc"])).upper() for item in error.errors())
        wrong = WrongSetting(names, "cannot be used", ".env.example says what each should be")
        raise ConfigError(f"environment: {names} {wrong.problem}; {wrong.remedy}", [wrong]) from None
    except ValueError as error:
        expected = str(error).partition(": ")[2]
        wrong = WrongSetting(clock.VARIABLE, f"got {os.environ.get(clock.VARIABLE)!r}", expected)
        raise ConfigError(f"environment: {error}", [wrong]) from None


def refuse_proof_settings(config: VibeBotConfig, secrets: Secrets) -> None:
    """Make sure that what only a proof may do is done to a sandbox, which answers on loopback.

    Raises:
        ConfigError: `ppo.gate` is made for proofs, and `X_BASE_URL` is another machine's.
    """
    if config.ppo.gate == "open" and urlsplit(secrets.x_base_url).hostname not in LOOPBACK:
        wrong = WrongSetting(
            "ppo.gate",
            "got 'open', which is for proofs against a sandbox on this machine, but X_BASE_URL is "
            f"{secrets.x_base_url}",
            "remove the setting, or point X_BASE_URL at a sandbox",
        )
        raise ConfigError(str(wrong), [wrong])


def explain(error: ValidationError) -> list[WrongSetting]:
    """Each wrong field: where, what stood there, what to do."""
    wrong = []
    for item in error.errors(include_url=False):
        field = ".".join(str(part) for part in item["loc"]) or "(the whole)"
        if item["type"] == "extra_forbidden":
            remedy = f"remove it or correct its name{_did_you_mean(item['loc'])}"
            wrong.append(WrongSetting(field, "unknown setting", remedy))
        elif item["type"] == "missing":
            wrong.append(WrongSetting(field, "missing", "add it (explorer.example.yaml shows how)"))
        else:
            said = f"{item['msg'][0].lower()}{item['msg'][1:]}"
            wrong.append(WrongSetting(field, f"got {_shown(item['input'])!r}", said))
    return wrong


def _shown(value: object) -> object:
    """What stands in a config holds no secret, unless somebody has put one into an address."""
    if not isinstance(value, str) or "://" not in value:
        return value
    address, mark, _ = value.partition("?")
    return without_password(address) + (f"{mark}***" if mark else "")


def without_password(url: str) -> str:
    """An address that may be shown."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that cannot be read"
    if parts.password is None:
        return url
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{parts.netloc.rpartition('@')[2]}"))


def _did_you_mean(location: tuple[int | str, ...]) -> str:
    import difflib  # only when something is wrong

    section: type[BaseModel] = VibeBotConfig
    for part in location[:-1]:
        annotation = section.model_fields[str(part)].annotation if str(part) in section.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return ""
        section = annotation
    close = difflib.get_close_matches(str(location[-1]), section.model_fields, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
