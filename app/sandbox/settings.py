"""How one sandbox is set up: where its state lies, whose bot it serves, and the keys it accepts."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

Mechanism = Literal["taste", "bounded_confidence"]
MECHANISMS: tuple[str, ...] = get_args(Mechanism)
Tier = Literal["pay-per-use", "basic", "pro", "enterprise"]
TIERS: tuple[str, ...] = get_args(Tier)


@dataclass(frozen=True)
class Keys:
    """The four keys of OAuth 1.0a user context. The defaults are for trying; they open nothing but a sandbox."""

    api_key: str = "sandbox-api-key"
    api_secret: str = "sandbox-api-secret"  # noqa: S105 - documented, and worth nothing elsewhere
    access_token: str = "1000001-sandbox-access-token"  # noqa: S105 - like at X, it begins with the user id
    access_token_secret: str = "sandbox-access-token-secret"  # noqa: S105

    @classmethod
    def from_environment(cls) -> Keys:
        """`SANDBOX_API_KEY`, `SANDBOX_API_SECRET`, `SANDBOX_ACCESS_TOKEN`, `SANDBOX_ACCESS_TOKEN_SECRET`."""
        names = cls.__dataclass_fields__
        return cls(**{name: os.environ.get(f"SANDBOX_{name.upper()}") or str(f.default) for name, f in names.items()})


@dataclass(frozen=True)
class Settings:
    """One sandbox.

    Attributes:
        state: folder of its database; made if missing.
        community: name of a shipped community, or a path.
        mechanism: how a text comes to its reactions: `community.py`, or `boundedconfidence.py`.
        tier: access tier that it plays; on all but enterprise, unsummoned replies, quotes and follows are refused.
    """

    state: Path
    community: str = "default"
    mechanism: Mechanism = "taste"
    seed: int = 1
    bot_id: int = 1_000_001
    bot_handle: str = "explorer_bot"
    bot_name: str = "Explorer"
    tier: Tier = "enterprise"
    keys: Keys = field(default_factory=Keys.from_environment)
