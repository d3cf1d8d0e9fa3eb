"""A sandbox that lives in this process's virtual time, a browser for its consent page, and tokens in a bot's row."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from html import unescape
from typing import Any

import requests
from pydantic import SecretStr

from app.clock import VirtualTime
from app.config import BudgetConfig, Secrets
from app.sandbox.settings import Keys
from app.x.oauth2 import SCOPES, Pair
from app.x.tokens import TokenStore
from app.x_interactor import XInteractor
from dbs.session import Database

BOT, USER = "explorer", "1000001"
BUDGET = BudgetConfig(tier="enterprise", max_usd_per_day=100, max_usd_per_month=1000)


def oauth2_secrets(url: str, **changes: Any) -> Secrets:
    keys = Keys()
    return Secrets(
        **{"x_base_url": url, "x_client_id": keys.client_id, "x_client_secret": keys.client_secret, **changes}
    )


def pair_of(told: dict[str, Any]) -> Pair:
    """A pair as X's token endpoint tells it."""
    return Pair(
        SecretStr(told["access_token"]),
        SecretStr(told["refresh_token"]),
        timedelta(seconds=told["expires_in"]),
        frozenset(SCOPES),
    )


@dataclass
class World:
    """The sandbox, and the time that it and the bot live in."""

    url: str
    time: VirtualTime

    def control(self, path: str, body: object = None) -> Any:
        url = f"{self.url}/_sandbox/{path}"
        answer = requests.get(url, timeout=20) if body is None else requests.post(url, json=body, timeout=20)
        answer.raise_for_status()
        return answer.json()

    def pass_time(self, **span: float) -> None:
        self.time.jump(self.time.now() + timedelta(**span))

    def asked_for_tokens(self) -> int:
        """How often the token endpoint was asked."""
        return int(self.control("summary")["calls"].get("POST /2/oauth2/token", 0))

    def posted(self) -> list[str]:
        return [row["text"] for row in self.control("record") if row["id"] is not None]

    def store(self, database: Database, **changes: Any) -> TokenStore:
        secret = oauth2_secrets(self.url, **changes).x_client_secret
        assert secret is not None
        return TokenStore(database, BOT, USER, secret)

    def log_in(self, database: Database) -> Pair:
        """Consent by the control, and store what it gave."""
        pair = pair_of(self.control("authorize", {}))
        self.store(database).save(pair)
        return pair

    def bot(self, database: Database, **changes: Any) -> XInteractor:
        secrets = oauth2_secrets(self.url, **changes)
        return XInteractor(USER, bot_id=BOT, live=True, secrets=secrets, db=database, budget=BUDGET)


def browse(address: str, decision: str = "allow") -> str:
    """Open X's page as a browser does and press one of its buttons; the address that one is sent to then."""
    page = requests.get(address, timeout=20)
    page.raise_for_status()
    fields = dict(re.findall(r"<input type=hidden name=(\w+) value='([^']*)'", page.text))
    form = {name: unescape(value) for name, value in fields.items()} | {"decision": decision}
    sent = requests.post(page.url.split("?")[0], data=form, allow_redirects=False, timeout=20)
    assert sent.status_code == 303, sent.text
    return sent.headers["Location"]
