"""How one sandbox is set up: where its state lies, whose bot it serves, and the keys it accepts."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

Mechanism = Literal["taste", "bounded_confidence"]
MECHANISMS: tuple[str, ...] = get_args(Mechanism)
Tier = Literal["pay-per-use", "free", "basic", "pro", "enterprise"]
TIERS: tuple[str, ...] = get_args(Tier)
# In which words to answer: as asked, or always as up to 2.166 of X's description, or always as since 2.167.
Vocabulary = Literal["asked", "tweet", "post"]
VOCABULARIES: tuple[str, ...] = get_args(Vocabulary)


@dataclass(frozen=True)
class Keys:
    """What a client proves itself with: the keys of OAuth 1.0a user context, the app's bearer token, and its client id
    and secret of OAuth 2.0. The defaults are for trying; they open nothing but a sandbox.
    """

    api_key: str = "sandbox-api-key"
    api_secret: str = "sandbox-api-secret"  # noqa: S105 - documented, and worth nothing elsewhere
    access_token: str = "1000001-sandbox-access-token"  # noqa: S105 - like at X, it begins with the user id
    access_token_secret: str = "sandbox-access-token-secret"  # noqa: S105
    bearer_token: str = "sandbox-bearer-token"  # noqa: S105
    client_id: str = "sandbox-client-id"
    client_secret: str = "sandbox-client-secret"  # noqa: S105

    @classmethod
    def from_environment(cls) -> Keys:
        """`SANDBOX_API_KEY` and so on: each key in capitals."""
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
        credits_usd: what the account has bought to begin with; None never ends.
        post_cap: posts that may be read in a calendar month; None is the tier's own.
        public_client: whether the app is one that can keep no secret, and asks for tokens by its client id alone.
    """

    state: Path
    community: str = "default"
    mechanism: Mechanism = "taste"
    seed: int = 1
    bot_id: int = 1_000_001
    bot_handle: str = "explorer_bot"
    bot_name: str = "Explorer"
    tier: Tier = "enterprise"
    credits_usd: float | None = None
    post_cap: int | None = None
    vocabulary: Vocabulary = "asked"
    public_client: bool = False
    keys: Keys = field(default_factory=Keys.from_environment)
