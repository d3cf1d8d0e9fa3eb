"""The tokens of OAuth 2.0 in PostgreSQL, where all workers of a bot find them: read, replaced, given up.

The row holds them sealed with X_CLIENT_SECRET (`app/x/sealing.py`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import SecretStr
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app import clock, events
from app.x import errors, sealing
from app.x.oauth2 import LOGIN, Pair
from dbs.models import OAuth2Tokens
from dbs.session import Database

# Shares of an access token's life, and not minutes, because a sandbox's world may run at any speed. Renewed a little
# before its end (of two hours, six minutes); refused in its first minute, it is refused for another reason than age.
DUE, NEW = 0.95, 0.01


@dataclass(frozen=True)
class Stored:
    """A pair as it was read. `sealed` says which: no two sealings are the same."""

    access: SecretStr
    refresh: SecretStr
    obtained_at: datetime
    expires_at: datetime
    sealed: str

    def is_due(self) -> bool:
        """Whether it should be renewed now."""
        return clock.now() >= self._at(DUE)

    def is_over(self) -> bool:
        """Whether X takes it no more."""
        return clock.now() >= self.expires_at

    def is_new(self) -> bool:
        return self.obtained_at <= clock.now() < self._at(NEW)

    def _at(self, share: float) -> datetime:
        life: timedelta = self.expires_at - self.obtained_at
        return self.obtained_at + life * share


class TokenStore:
    """One bot's row."""

    def __init__(self, db: Database, bot_id: str, user_id: str, secret: SecretStr) -> None:
        self.db = db
        self.bot_id = bot_id
        self._user_id = user_id
        self._secret = secret

    def read(self) -> Stored:
        """What is stored.

        Raises:
            Unauthorized: nothing that can be used is; the message says why, and what to do.
        """
        with self.db.transaction() as session:
            row = session.get(OAuth2Tokens, self.bot_id)
        if row is None:
            raise errors.Unauthorized(f"bot {self.bot_id} has no tokens of OAuth 2.0 yet; {LOGIN}")
        if row.user_id != self._user_id:
            raise errors.Unauthorized(
                f"the tokens are of account {row.user_id}, but user_id is {self._user_id}; correct user_id, or {LOGIN} "
                "as the bot's account"
            )
        if row.refused is not None:
            raise errors.Unauthorized(row.refused)
        return self._opened(row)

    def save(self, pair: Pair) -> None:
        """Store what a login gave, in the place of whatever was there."""
        values = {"user_id": self._user_id, "refused": None, **self._sealed(pair)}
        with self.db.transaction() as session:
            session.execute(
                insert(OAuth2Tokens)
                .values(bot_id=self.bot_id, **values)
                .on_conflict_do_update(index_elements=[OAuth2Tokens.bot_id], set_=values)
            )
            events.record(session, self.bot_id, "login.done", self._user_id)

    def replace(self, old: Stored, pair: Pair) -> Stored:
        """Store what a renewal gave, unless a login has put something else there meanwhile.

        Returns:
            What is stored now.
        """
        values = self._sealed(pair)
        with self.db.transaction() as session:
            row = self._locked(session)
            if row.sealed == old.sealed:
                row.refused = None
                for name, value in values.items():
                    setattr(row, name, value)
        return self._opened(row)

    def give_up(self, old: Stored, reason: str) -> None:
        """Keep that X renews this pair no more, so that nobody asks again; said once."""
        with self.db.transaction() as session:
            row = self._locked(session)
            if row.sealed == old.sealed and row.refused is None:
                row.refused = reason
                events.record(session, self.bot_id, "login.lost", row.user_id, reason=reason)

    def _locked(self, session: Session) -> OAuth2Tokens:
        return session.get_one(OAuth2Tokens, self.bot_id, with_for_update=True)

    def _sealed(self, pair: Pair) -> dict[str, object]:
        names = {"access": pair.access.get_secret_value(), "refresh": pair.refresh.get_secret_value()}
        salt, sealed = sealing.seal(SecretStr(json.dumps(names)), self._secret, self._purpose)
        now = clock.now()
        return {"salt": salt, "sealed": sealed, "obtained_at": now, "expires_at": now + pair.life}

    def _opened(self, row: OAuth2Tokens) -> Stored:
        try:
            text = sealing.unseal(row.salt, row.sealed, self._secret, self._purpose)
        except sealing.CannotOpen:
            raise errors.Unauthorized(
                f"the stored tokens do not open with X_CLIENT_SECRET, which has changed since; {LOGIN}"
            ) from None
        opened = {name: SecretStr(value) for name, value in json.loads(text.get_secret_value()).items()}
        return Stored(opened["access"], opened["refresh"], row.obtained_at, row.expires_at, row.sealed)

    @property
    def _purpose(self) -> str:
        return f"oauth2_tokens of {self.bot_id}"
