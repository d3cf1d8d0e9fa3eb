"""What opens X: sealed, and shown to nobody."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from dbs.models.base import Base, bot_id

# A table with this in its `info` is in no export and on no page.
SECRET = "secret"  # noqa: S105 - the name of a mark


class OAuth2Tokens(Base):
    __tablename__ = "oauth2_tokens"
    __table_args__ = (
        {
            "comment": "The tokens of OAuth 2.0 that all workers of a bot share, sealed with X_CLIENT_SECRET; a bot with OAuth 1.0a has no row. Neither exported nor shown.",
            "info": {SECRET: True},
        },
    )

    bot_id: Mapped[str] = bot_id(primary_key=True)
    user_id: Mapped[str] = mapped_column(comment="X id of the account that consented.")
    salt: Mapped[bytes] = mapped_column(
        LargeBinary, comment="Random, new at each sealing. HKDF-SHA256 makes the key from it and X_CLIENT_SECRET."
    )
    sealed: Mapped[str] = mapped_column(
        comment="Fernet token of a JSON object: the access token, and the refresh token, which is good for one use."
    )
    obtained_at: Mapped[datetime] = mapped_column(comment="World time at which X gave this pair.")
    expires_at: Mapped[datetime] = mapped_column(comment="World time at which the access token ends.")
    refused: Mapped[str | None] = mapped_column(
        comment="Why X renews it no more: a person has to run explorer login. NULL while it does."
    )
