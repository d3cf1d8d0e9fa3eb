"""Bearer tokens over their ends: renewed once whoever asks, kept for all, and given up where X takes them no more."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import requests
import structlog
from factories import give_checkpoint, give_draft, give_persona
from oauth2_world import BOT, BUDGET, USER, World, oauth2_secrets
from pydantic import SecretStr
from scripted_x import OAUTH2_CANARIES, Reply, Request, Reset, ScriptedX, user
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError
from test_x_secrets import everything_about

from app import clock
from app.config import VibeBotConfig
from app.loading import ConfigError
from app.posting import due_posts, queue_drafts, send_post
from app.sandbox.settings import Keys
from app.x import errors, renewal
from app.x.capabilities import Ability, Capabilities
from app.x.oauth2 import SCOPES, Pair, refresh
from app.x.renewal import RenewedBearer
from app.x.tokens import TokenStore
from app.x_interactor import XInteractor
from dbs.models import Bot, Event, LedgerEntry, OAuth2Tokens
from dbs.session import Database
from dbs.states import PostState

pytestmark = pytest.mark.usefixtures("bot")


def kinds(database: Database) -> list[str]:
    with database.transaction() as session:
        return list(session.scalars(select(Event.kind).where(Event.kind.like("login.%")).order_by(Event.event_id)))


def test_the_bot_reads_and_posts_across_the_end_of_its_token(oauth2_world: World, database: Database) -> None:
    world = oauth2_world
    world.log_in(database)
    x = world.bot(database)
    assert x.me().user_id == USER
    followed = next(iter(x.resolve_handles(["noctuary"])[0].values()))
    x.follow(followed.user_id)
    assert world.asked_for_tokens() == 0
    world.pass_time(hours=3)
    made = x.post_tweet("A first word after the night.").x_post_id
    assert made is not None
    assert world.asked_for_tokens() == 1
    world.pass_time(hours=1)
    assert x.get_timeline(USER)
    assert made in x.get_analytics([made], clock.now() - timedelta(hours=2), clock.now())
    assert world.asked_for_tokens() == 1
    world.pass_time(hours=2)
    assert made in x.get_counts([made])
    assert world.asked_for_tokens() == 2
    assert world.posted() == ["A first word after the night."]
    # Only what was asked of X's resources is in the ledger: tweepy asked for nobody's id by itself.
    with database.transaction() as session:
        booked = session.scalars(select(LedgerEntry.endpoint)).all()
    calls = world.control("summary")["calls"]
    assert len(booked) == sum(calls.values()) - calls["POST /2/oauth2/token"]
    x.close()


def test_a_token_is_renewed_a_little_before_its_end(oauth2_world: World, database: Database) -> None:
    world = oauth2_world
    world.log_in(database)
    x = world.bot(database)
    world.pass_time(hours=1, minutes=50)
    x.me()
    assert world.asked_for_tokens() == 0
    world.pass_time(minutes=5)
    x.me()
    assert world.asked_for_tokens() == 1


def test_threads_that_share_a_client_renew_once(oauth2_world: World, database: Database) -> None:
    world = oauth2_world
    world.log_in(database)
    x = world.bot(database)
    world.pass_time(hours=3)
    with ThreadPoolExecutor(8) as pool:
        assert {me.user_id for me in pool.map(lambda _: x.me(), range(8))} == {USER}
    assert world.asked_for_tokens() == 1


def make_look_good(database: Database) -> None:
    """As where our clock is wrong: the row says that the token is halfway through its life."""
    with database.transaction() as session:
        row = session.get_one(OAuth2Tokens, BOT)
        row.obtained_at, row.expires_at = clock.now() - timedelta(hours=1), clock.now() + timedelta(hours=1)


def test_a_refused_token_that_we_thought_good_is_renewed_and_the_post_sent_again(
    oauth2_world: World, database: Database
) -> None:
    world = oauth2_world
    world.log_in(database)
    world.pass_time(hours=3)
    make_look_good(database)
    x = world.bot(database)
    assert x.post_tweet("Said once.").x_post_id
    assert world.asked_for_tokens() == 1
    assert [row["status"] for row in world.control("record")] == [401, 201]
    assert world.posted() == ["Said once."]
    with database.transaction() as session:
        entry = session.scalars(select(LedgerEntry)).one()
        assert (entry.outcome, entry.status) == ("ok", 201)


def test_a_refused_token_that_another_has_renewed_is_not_renewed_again(oauth2_world: World, database: Database) -> None:
    world = oauth2_world
    world.log_in(database)
    secrets = oauth2_secrets(world.url)
    one, other = (RenewedBearer(world.store(database), secrets) for _ in range(2))
    used = one.ready()
    world.pass_time(hours=3)
    other.ready()
    assert one.renew(used)
    assert one.ready() == other.ready() != used
    assert world.asked_for_tokens() == 1


def test_a_consent_that_was_taken_back_is_said_once_and_asked_about_once(
    oauth2_world: World, database: Database
) -> None:
    world = oauth2_world
    pair = world.log_in(database)
    x, keys = world.bot(database), Keys()
    x.me()
    revoked = requests.post(
        f"{world.url}/2/oauth2/revoke",
        data={"token": pair.access.get_secret_value()},
        auth=(keys.client_id, keys.client_secret),
        timeout=20,
    )
    assert revoked.json() == {"revoked": True}
    # A token in its first minute is not refused for its age: renewing it would help nothing.
    with pytest.raises(errors.Unauthorized):
        x.me()
    assert world.asked_for_tokens() == 0
    world.pass_time(minutes=30)
    for _ in range(3):
        with pytest.raises(errors.Unauthorized, match="run `explorer login`"):
            x.post_tweet("Nobody will read this.")
    assert world.asked_for_tokens() == 1
    assert kinds(database) == ["login.done", "login.lost"]
    assert world.posted() == []
    world.log_in(database)
    assert x.me().user_id == USER


def test_a_bot_whose_login_is_lost_stops_posting_and_says_so_once(
    oauth2_world: World, database: Database, config: VibeBotConfig
) -> None:
    world = oauth2_world
    used = world.log_in(database)
    config = config.model_copy(update={"budget": BUDGET})
    with database.transaction() as session:
        give_persona(session)
        checkpoint = give_checkpoint(session)
        for content in ("One thought about tide pools.", "Another, about the moon above them."):
            give_draft(session, checkpoint, content)
    assert queue_drafts(database, config) == 2
    # Somebody else has used the refresh token up, as a process does that dies with X's answer in its hands.
    refresh(oauth2_secrets(world.url), used.refresh)
    world.pass_time(hours=3)
    x = world.bot(database)
    for post_id in due_posts(database, config):
        assert send_post(database, x, config, post_id) is PostState.QUEUED
    assert due_posts(database, config) == []
    with database.transaction() as session:
        lost = session.scalars(select(Event.detail).where(Event.kind == "capability.lost")).all()
    assert [detail["error"] for detail in lost] == ["Unauthorized"]
    assert "run `explorer login`" in lost[0]["reason"]
    verdict = Capabilities(database, BOT, BUDGET.tier).allows(Ability.POST)
    assert not verdict.granted
    assert kinds(database) == ["login.done", "login.lost"]
    assert world.posted() == []
    # A person logs in; what waits leaves at its next attempt.
    world.log_in(database)
    world.pass_time(hours=1)
    for post_id in due_posts(database, config):
        assert send_post(database, x, config, post_id) is PostState.POSTED
    assert len(world.posted()) == 2


def test_what_was_sealed_with_another_secret_does_not_open(oauth2_world: World, database: Database) -> None:
    oauth2_world.log_in(database)
    x = oauth2_world.bot(database, x_client_secret="another-secret")
    with pytest.raises(errors.Unauthorized, match=r"X_CLIENT_SECRET, which has changed since; run `explorer login`"):
        x.me()
    assert oauth2_world.asked_for_tokens() == 0


def test_tokens_of_another_account_are_not_used(oauth2_world: World, database: Database) -> None:
    oauth2_world.log_in(database)
    secrets = oauth2_secrets(oauth2_world.url)
    x = XInteractor("77", bot_id=BOT, secrets=secrets, db=database)
    with pytest.raises(errors.Unauthorized, match=f"of account {USER}, but user_id is 77"):
        x.me()


def test_without_a_login_nothing_is_asked(oauth2_world: World, database: Database) -> None:
    with pytest.raises(errors.Unauthorized, match=r"no tokens of OAuth 2\.0 yet; run `explorer login`"):
        oauth2_world.bot(database).post_tweet("No.")
    assert oauth2_world.control("summary")["calls"] == {}
    with database.transaction() as session:
        assert session.scalars(select(LedgerEntry)).all() == []


def test_a_row_opens_for_its_own_bot_only(oauth2_world: World, database: Database) -> None:
    oauth2_world.log_in(database)
    with database.transaction() as session:
        session.add(Bot(bot_id="other", user_id=USER, created_at=clock.now()))
        session.flush()
        session.execute(
            text(
                "INSERT INTO oauth2_tokens "
                "SELECT 'other', user_id, salt, sealed, obtained_at, expires_at FROM oauth2_tokens"
            )
        )
    secret = oauth2_secrets(oauth2_world.url).x_client_secret
    assert secret is not None
    with pytest.raises(errors.Unauthorized, match="do not open"):
        TokenStore(database, "other", USER, secret).read()


@pytest.mark.parametrize(
    ("given", "missing"),
    [({"x_client_secret": None}, "X_CLIENT_SECRET"), ({"x_client_id": ""}, "X_CLIENT_ID")],
)
def test_half_a_set_up_is_refused(given: dict[str, None], missing: str, database: Database) -> None:
    with pytest.raises(ConfigError, match=f"{missing} missing; OAuth 2.0 needs both"):
        XInteractor(USER, secrets=oauth2_secrets("http://127.0.0.1:1", **given), db=database)


def test_tokens_need_a_database() -> None:
    with pytest.raises(ConfigError, match=r"the tokens of OAuth 2\.0 are in the database"):
        XInteractor(USER, secrets=oauth2_secrets("http://127.0.0.1:1"))


# Against an X that answers as a test tells it to.

ACCESS, REFRESH = "CANARYaccess0000", "CANARYrefresh0000"
NEXT = {
    "token_type": "bearer",
    "expires_in": 7200,
    "access_token": "CANARYaccess1111",
    "refresh_token": "CANARYrefresh1",
}


def held(database: Database, x: ScriptedX, age: timedelta) -> XInteractor:
    """A bot whose pair is of that age, of two hours."""
    secrets = oauth2_secrets(x.url, **OAUTH2_CANARIES)
    assert secrets.x_client_secret is not None
    pair = Pair(SecretStr(ACCESS), SecretStr(REFRESH), timedelta(hours=2), frozenset(SCOPES))
    TokenStore(database, BOT, USER, secrets.x_client_secret).save(pair)
    with database.transaction() as session:
        row = session.get_one(OAuth2Tokens, BOT)
        row.obtained_at, row.expires_at = row.obtained_at - age, row.expires_at - age
    return XInteractor(USER, bot_id=BOT, live=True, secrets=secrets, db=database, timeout=2.0)


def answering(token: Reply | Reset) -> Callable[[Request], Reply]:
    def answer(request: Request) -> Reply:
        if request.path == "/2/oauth2/token":
            assert isinstance(token, Reply)
            return token
        return Reply(body={"data": user(USER, "explorer_bot")})

    return answer


OVER, DUE = timedelta(hours=3), timedelta(minutes=117)
BROKEN = [
    Reply(503, b"<html>"),
    Reply(429, {}),
    Reply(200, b"<html>no</html>"),
    Reply(200, {"token_type": "bearer"}),
    Reply(200, {**NEXT, "expires_in": "soon"}),
    Reply(403, {"title": "Forbidden"}),
    Reply(400, {"error": "temporarily_unavailable"}),
]


@pytest.mark.parametrize("token", BROKEN, ids=lambda reply: f"{reply.status} {str(reply.body)[:20]}")
def test_an_x_that_gives_no_token_now_is_asked_again(token: Reply, x: ScriptedX, database: Database) -> None:
    x.otherwise = answering(token)
    bot = held(database, x, OVER)
    for _ in range(2):
        with pytest.raises(errors.ServerUnavailable):
            bot.post_tweet("Later.")
    assert [request.path for request in x.requests] == ["/2/oauth2/token"] * 2
    x.otherwise = answering(Reply(body=NEXT))
    assert bot.me().user_id == USER
    assert kinds(database) == ["login.done"]


def test_a_token_that_is_still_good_goes_on_where_x_gives_no_other(x: ScriptedX, database: Database) -> None:
    x.otherwise = answering(Reply(503))
    assert held(database, x, DUE).me().user_id == USER
    assert [request.path for request in x.requests] == ["/2/oauth2/token", "/2/users/me"]
    assert x.requests[1].headers["Authorization"] == f"Bearer {ACCESS}"


def test_an_app_that_x_does_not_let_in_says_nothing_of_the_tokens(x: ScriptedX, database: Database) -> None:
    refused = {"error": "unauthorized_client", "error_description": "Missing valid authorization header"}
    x.otherwise = answering(Reply(401, refused))
    bot = held(database, x, OVER)
    with pytest.raises(errors.Unauthorized, match="correct X_CLIENT_ID and X_CLIENT_SECRET"):
        bot.me()
    x.otherwise = answering(Reply(body=NEXT))
    assert bot.me().user_id == USER


def leaks(told: str) -> bool:
    return "CANARY" in told


def test_a_refusal_tells_no_secret(x: ScriptedX, database: Database, caplog: pytest.LogCaptureFixture) -> None:
    """Not even where the other side says back what it was sent."""

    def echo(request: Request) -> Reply:
        said = f"{request.body} {json.dumps(request.headers)}"
        if request.path == "/2/oauth2/token":
            return Reply(400, {"error": "invalid_request", "error_description": said})
        return Reply(401, {"title": "Unauthorized", "detail": said})

    x.otherwise = echo
    with caplog.at_level(0), structlog.testing.capture_logs() as records:
        for age in (timedelta(seconds=1), OVER):
            bot = held(database, x, age)
            with pytest.raises(errors.Unauthorized) as caught:
                bot.post_tweet("hello")
            assert not leaks(everything_about(caught.value))
            assert not leaks(repr(vars(bot)) + repr(vars(bot._wire)) + repr(vars(bot._wire.authorization)))
    basic = x.requests[-1].headers["Authorization"].partition(" ")[2]
    with database.transaction() as session:
        kept = [
            str(row) for table in ("oauth2_tokens", "events") for row in session.execute(text(f"SELECT * FROM {table}"))
        ]
    for told in (caplog.text, repr(records), *kept):
        assert not leaks(told)
        assert basic not in told
    assert leaks(repr(x.requests))  # a canary that is there is found


def test_what_x_gave_is_kept_where_the_database_is_away_for_a_moment(
    x: ScriptedX, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    x.otherwise = answering(Reply(body=NEXT))
    bot, real, failures = held(database, x, OVER), TokenStore.replace, [1, 2]

    def replace(store: TokenStore, *arguments: object) -> object:
        if failures:
            failures.pop()
            raise OperationalError("UPDATE", {}, Exception("server closed the connection"))
        return real(store, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(TokenStore, "replace", replace)
    assert bot.me().user_id == USER
    assert [request.path for request in x.requests].count("/2/oauth2/token") == 1


def test_a_login_meanwhile_is_not_overwritten(oauth2_world: World, database: Database) -> None:
    oauth2_world.log_in(database)
    store = oauth2_world.store(database)
    old = store.read()
    newer = oauth2_world.log_in(database)
    given = Pair(SecretStr("a"), SecretStr("b"), timedelta(hours=2), frozenset())
    assert store.replace(old, given).access == newer.access
    store.give_up(old, "too late")
    assert store.read().access == newer.access


def test_a_lease_that_nobody_gives_back_is_not_waited_for_for_ever(
    oauth2_world: World, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app import leases

    monkeypatch.setattr(renewal, "PATIENCE", timedelta(seconds=0.2))
    oauth2_world.log_in(database)
    lease = leases.take(database, BOT, renewal.LEASE, 60)
    bearer = RenewedBearer(oauth2_world.store(database), oauth2_secrets(oauth2_world.url))
    oauth2_world.pass_time(minutes=117)
    assert bearer.ready().is_due()  # good for another while
    oauth2_world.pass_time(hours=1)
    with pytest.raises(errors.ServerUnavailable, match="renewed by another process"):
        bearer.ready()
    leases.release(lease)
    assert not bearer.ready().is_due()
