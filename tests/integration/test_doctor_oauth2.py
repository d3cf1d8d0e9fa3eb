"""`explorer doctor` where the bot is let into its account by OAuth 2.0."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import requests
from healthy_setup import BOT_ID, SKIPPED_WHEN_WELL, Setting, one_fault
from oauth2_world import oauth2_secrets, pair_of
from sandbox_server import Server

from app.doctor.findings import Finding
from app.sandbox.settings import Keys
from app.x.oauth2 import refresh
from app.x.tokens import TokenStore
from dbs.session import Database

Examined = Callable[[], list[Finding]]


@pytest.fixture
def oauth2(setting: Setting, x_sandbox: Server) -> Setting:
    """As the healthy set-up, but with a client id and its secret, and a login in place of the four keys."""
    keys = Keys()
    for name in ("X_API_KEY", "X_API_SECRET", "X_ACCESS_TOKEN", "X_ACCESS_TOKEN_SECRET"):
        del setting.env[name]
    setting.env |= {"X_CLIENT_ID": keys.client_id, "X_CLIENT_SECRET": keys.client_secret}
    secret = oauth2_secrets(x_sandbox.base_url).x_client_secret
    assert secret is not None
    db = Database(setting.env["DATABASE_URL"])
    TokenStore(db, "explorer", BOT_ID, secret).save(pair_of(x_sandbox.control("authorize", {})))
    db.close()
    return setting


def test_nothing_is_at_fault_where_somebody_has_logged_in(oauth2: Setting, examined: Examined) -> None:
    oauth2.write()
    found = {finding.check: finding for finding in examined()}
    assert {name for name, finding in found.items() if finding.state != "ok"} == SKIPPED_WHEN_WELL
    assert found["keys"].message == "OAuth 2.0: X_CLIENT_ID, X_CLIENT_SECRET"
    assert found["login"].message.startswith(f"tokens of account {BOT_ID}, good until ")


def test_the_four_keys_are_not_used_beside_it(oauth2: Setting, examined: Examined) -> None:
    oauth2.env["X_ACCESS_TOKEN"] = "2000002-of-another-account"
    oauth2.write()
    found = {finding.check: finding for finding in examined()}
    assert not [finding for finding in found.values() if finding.state == "fault"]
    assert found["keys"].message.endswith("the four keys are not used")


def sql(statement: str) -> Callable[[Setting], None]:
    return lambda setting: setting.sql(statement)


def use_up(setting: Setting) -> None:
    """The access token is over, and somebody has used the refresh token."""
    secrets = oauth2_secrets(setting.env["X_BASE_URL"])
    assert secrets.x_client_secret is not None
    db = Database(setting.env["DATABASE_URL"])
    refresh(secrets, TokenStore(db, "explorer", BOT_ID, secrets.x_client_secret).read().refresh)
    db.close()
    setting.sql(
        "UPDATE oauth2_tokens SET obtained_at = obtained_at - interval '3 h', expires_at = expires_at - interval '3 h'"
    )


def revoke(setting: Setting) -> None:
    keys = Keys()
    secrets = oauth2_secrets(setting.env["X_BASE_URL"])
    assert secrets.x_client_secret is not None
    db = Database(setting.env["DATABASE_URL"])
    held = TokenStore(db, "explorer", BOT_ID, secrets.x_client_secret).read()
    db.close()
    requests.post(
        f"{setting.env['X_BASE_URL']}/2/oauth2/revoke",
        data={"token": held.access.get_secret_value()},
        auth=(keys.client_id, keys.client_secret),
        timeout=20,
    ).raise_for_status()


BROKEN = {
    "a client id without its secret": (
        lambda setting: setting.env.pop("X_CLIENT_SECRET"), "keys", "X_CLIENT_SECRET", "missing",
    ),
    "nobody has logged in": (sql("DELETE FROM oauth2_tokens"), "login", "explorer login", "has no tokens"),
    "tokens of another account": (
        sql("UPDATE oauth2_tokens SET user_id = '77'"),
        "login", "explorer login", f"of account 77, but user_id is {BOT_ID}",
    ),
    "another secret": (
        lambda setting: setting.env.update(X_CLIENT_SECRET="another-secret"),
        "login", "explorer login", "do not open with X_CLIENT_SECRET",
    ),
    "tokens that X renews no more": (
        sql("UPDATE oauth2_tokens SET refused = 'X takes the refresh token no more; run `explorer login`'"),
        "login", "explorer login", "no more",
    ),
    "a renewal that X refuses": (use_up, "x", "explorer login", "X takes the refresh token no more"),
    "a consent that was taken back": (revoke, "account", "explorer login", "401"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_one_fault_is_found_and_named(name: str, oauth2: Setting, examined: Examined) -> None:
    break_it, check, wrong, says = BROKEN[name]
    break_it(oauth2)
    oauth2.write()
    found = examined()
    fault = one_fault(found, check)
    assert fault.setting == wrong
    assert says in fault.message
    assert Keys().client_secret not in repr(found)
