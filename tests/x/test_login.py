"""`explorer login` against the real sandbox over HTTP, with a test as the browser; and everything that goes wrong."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import yaml
from oauth2_world import BOT, USER, World, browse, oauth2_secrets
from pydantic import SecretStr
from sandbox_server import Server
from scripted_x import OAUTH2_CANARIES, Reply, ScriptedX
from sqlalchemy import select, text
from test_x_secrets import everything_about

from app import login
from app.config import Secrets, VibeBotConfig
from app.context import BotContext
from app.loading import ConfigError
from app.local.servers import free_port
from app.sandbox.settings import Keys
from app.x import errors
from app.x.capabilities import Ability, Capabilities
from app.x.oauth2 import SCOPES, Consent, LoginRefused
from dbs.models import Event, OAuth2Tokens
from dbs.session import Database

ROOT = Path(__file__).parents[2]
CALLBACK = "http://127.0.0.1:8766/callback"
BROWSER = "import sys; from oauth2_world import browse; import requests; requests.get(browse(sys.argv[1]), timeout=20)"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("sandbox"), clock="wall").start()
    yield running
    running.kill()


@pytest.fixture
def context(config: VibeBotConfig, database: Database, server: Server) -> BotContext:
    made = BotContext(config, oauth2_secrets(server.base_url), database)
    made.enrol()
    return made


def stored(database: Database) -> int:
    with database.transaction() as session:
        return len(session.scalars(select(OAuth2Tokens)).all())


# The command


@pytest.fixture
def command(
    config: VibeBotConfig, database_url: str, server: Server, tmp_path: Path
) -> Callable[..., subprocess.Popen[str]]:
    file = tmp_path / "explorer.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    keys = Keys()

    def start(*options: str, **env: str) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests/x"))),
            "DATABASE_URL": database_url,
            "X_BASE_URL": server.base_url,
            "X_CLIENT_ID": keys.client_id,
            "X_CLIENT_SECRET": keys.client_secret,
            **env,
        }
        arguments = [sys.executable, "-m", "app.cli", "login", "--config", str(file), *options]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            arguments, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=tmp_path
        )

    return start


def test_the_browser_is_opened_and_comes_back(
    command: Callable[..., subprocess.Popen[str]], database: Database, tmp_path: Path
) -> None:
    (tmp_path / "browser.py").write_text(BROWSER)
    process = command("--port", str(free_port()), BROWSER=f"{sys.executable} {tmp_path / 'browser.py'} %s &")
    said, failed = process.communicate(timeout=60)
    assert process.returncode == 0, failed
    assert f"logged in as @explorer_bot, {USER}" in said
    address = urlsplit(next(line for line in said.splitlines() if "/i/oauth2/authorize" in line))
    asked = {name: values[0] for name, values in parse_qs(address.query).items()}
    assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
    assert asked["scope"].split() == list(SCOPES)
    assert len(asked["state"]) >= 20
    assert stored(database) == 1
    assert Keys().client_secret not in said + failed


def test_the_address_is_pasted_by_hand(command: Callable[..., subprocess.Popen[str]], database: Database) -> None:
    process = command("--paste")
    assert process.stdin is not None
    assert process.stdout is not None
    address = next(line for line in process.stdout if "/i/oauth2/authorize" in line).strip()
    redirected = browse(address)
    process.stdin.write(f"{redirected}\n")
    process.stdin.flush()
    said, failed = process.communicate(timeout=60)
    assert process.returncode == 0, failed
    assert stored(database) == 1
    assert not re.findall("code=", said + failed)


@pytest.mark.parametrize(
    ("options", "env", "says"),
    [
        (("--no-browser", "--minutes", "0.01"), {}, "nobody came back from X within 0.01 minutes"),
        ((), {"X_CLIENT_ID": "", "X_CLIENT_SECRET": ""}, "X_CLIENT_ID, X_CLIENT_SECRET missing"),
        ((), {"X_CLIENT_SECRET": ""}, "X_CLIENT_SECRET missing"),
    ],
)
def test_what_cannot_be_begun_or_never_ends(
    options: tuple[str, ...], env: dict[str, str], says: str,
    command: Callable[..., subprocess.Popen[str]], database: Database,
) -> None:  # fmt: skip
    process = command("--port", str(free_port()), *options, **env)
    _, failed = process.communicate(timeout=60)
    assert process.returncode in {1, 2}
    assert says in failed
    assert "Traceback" not in failed
    assert stored(database) == 0


def test_a_port_that_is_taken(command: Callable[..., subprocess.Popen[str]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = command("--port", str(taken.getsockname()[1]))
        _, failed = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "cannot be listened on" in failed


# What comes of a consent


def test_a_login_stores_what_works_and_ends_the_trouble_of_an_earlier_one(
    context: BotContext, database: Database
) -> None:
    capabilities = Capabilities(database, BOT, context.config.budget.tier)
    capabilities.learn(Ability.POST, errors.Unauthorized("X takes the refresh token no more; run `explorer login`"))
    assert not capabilities.allows(Ability.POST).granted
    consent = login.begin(context, CALLBACK)
    user = login.admit(context, consent.redeem(SecretStr(browse(consent.address))))
    assert (user.user_id, user.handle) == (USER, "explorer_bot")
    assert capabilities.allows(Ability.POST).granted
    assert context.x.me().user_id == USER
    assert context.x.post_tweet("Let in by a person.").x_post_id
    context.x.close()


def another_state(address: str) -> str:
    return re.sub(r"state=[^&]+", "state=somebody-elses", browse(address))


def spent(address: str) -> str:
    """The code was used before, as where somebody looked over one's shoulder; X says the same of one that is over."""
    redirected = browse(address)
    code = parse_qs(urlsplit(redirected).query)["code"][0]
    base, keys = address.partition("/i/")[0], Keys()
    body = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": "x" * 43}
    requests.post(f"{base}/2/oauth2/token", data=body, auth=(keys.client_id, keys.client_secret), timeout=20)
    return redirected


@pytest.mark.parametrize(
    ("browser", "changes", "says"),
    [
        (another_state, {}, "another login"),
        (lambda address: browse(address, "deny"), {}, "consent was denied on X's page"),
        (spent, {}, "does not take the code"),
        (lambda _: f"{CALLBACK}?state=x", {}, "another login"),
        (lambda _: "nonsense", {}, "that is no address"),
        (browse, {"x_client_secret": "wrong"}, "correct X_CLIENT_ID and X_CLIENT_SECRET"),
    ],
    ids=["state", "denied", "spent", "no code", "nonsense", "secret"],
)
def test_a_login_that_comes_to_nothing_stores_nothing(
    browser: Callable[[str], str], changes: dict[str, str], says: str, server: Server, context: BotContext
) -> None:
    consent = Consent(oauth2_secrets(server.base_url, **changes), CALLBACK)
    with pytest.raises(LoginRefused, match=says):
        consent.redeem(SecretStr(browser(consent.address)))
    assert stored(context.db) == 0


def test_an_app_that_x_does_not_know_is_told_on_its_page(server: Server) -> None:
    consent = Consent(oauth2_secrets(server.base_url, x_client_id="nobody"), CALLBACK)
    assert requests.get(consent.address, timeout=20).status_code == 400


def test_a_consent_by_another_account_is_refused(config: VibeBotConfig, database: Database, server: Server) -> None:
    other = BotContext(config.model_copy(update={"user_id": "77"}), oauth2_secrets(server.base_url), database)
    other.enrol()
    consent = login.begin(other, CALLBACK)
    pair = consent.redeem(SecretStr(browse(consent.address)))
    with pytest.raises(LoginRefused, match=rf"given by @explorer_bot, {USER}, but user_id is 77; log in"):
        login.admit(other, pair)
    assert stored(database) == 0


LESS = {"token_type": "bearer", "expires_in": 7200, "access_token": "CANARYa0", "scope": "tweet.read users.read"}


def test_a_consent_to_less_than_was_asked_for_is_refused(x: ScriptedX) -> None:
    x.otherwise = Reply(body=LESS)
    consent = Consent(Secrets(**OAUTH2_CANARIES, x_base_url=x.url), CALLBACK)
    state = parse_qs(urlsplit(consent.address).query)["state"][0]
    redirected = SecretStr(f"{CALLBACK}?state={state}&code=CANARYcode0000")
    with pytest.raises(LoginRefused, match=r"X did not grant follows\.read.*offline\.access.*tweet\.write") as caught:
        consent.redeem(redirected)
    x.otherwise = Reply(503)
    with pytest.raises(LoginRefused, match=r"X gave no tokens: .*503") as again:
        consent.redeem(redirected)
    assert not leaks(everything_about(caught.value) + everything_about(again.value))


def leaks(told: str) -> bool:
    return "CANARY" in told


def test_the_page_is_x_s_own_where_x_is_meant() -> None:
    for base in ("https://api.twitter.com", "https://api.x.com", "https://api.x.com/"):
        consent = Consent(Secrets(**OAUTH2_CANARIES, x_base_url=base), CALLBACK)
        assert consent.address.startswith("https://x.com/i/oauth2/authorize?")
        assert "CANARY" not in consent.address


def test_the_four_keys_need_no_login(config: VibeBotConfig, database: Database) -> None:
    with pytest.raises(ConfigError, match=r"with the four keys of OAuth 1\.0a no login is needed"):
        login.begin(BotContext(config, Secrets(), database), CALLBACK)


def test_a_dump_of_the_database_opens_nothing(oauth2_world: World, database: Database, bot: object) -> None:
    pair = oauth2_world.log_in(database)
    with database.transaction() as session:
        dumped = repr(session.execute(text("SELECT * FROM oauth2_tokens")).mappings().all())
        told = [row.detail for row in session.scalars(select(Event))]
    for secret in (pair.access, pair.refresh, SecretStr(Keys().client_secret)):
        assert secret.get_secret_value() not in dumped + repr(told)
