"""X: that it can be reached, takes the keys as the bot's, and lets them do what the config asks for.

It takes one request, and one more for handles that nobody has looked up yet. Both are booked like any other.
"""

from __future__ import annotations

import socket
from datetime import timedelta
from urllib.parse import urlsplit

from sqlalchemy import select

from app.config import Secrets
from app.doctor.findings import AtFault, Check, NotExamined
from app.doctor.setup import Setup, wrong_from
from app.loading import ConfigError, WrongSetting
from app.x import errors
from app.x.authorization import check_credentials
from app.x.capabilities import ACCOUNT, Ability, Capabilities
from app.x.tokens import TokenStore
from app.x.types import Welcome
from app.x_interactor import XInteractor, authorization_of
from dbs.models import SeedHandle
from dbs.states import HandleState

# X refuses a signature whose time is some minutes off; ages and windows of posts go wrong sooner.
CLOCK_TOLERANCE = timedelta(seconds=60)
KEYS = "X_API_KEY, X_API_SECRET, X_ACCESS_TOKEN, X_ACCESS_TOKEN_SECRET"
CLIENT = "X_CLIENT_ID, X_CLIENT_SECRET"
LOGIN = "explorer login"


def check_keys(setup: Setup) -> str:
    try:
        check_credentials(setup.config.user_id, setup.secrets)
    except ConfigError as error:
        raise AtFault(*error.wrong) from None
    if setup.secrets.uses_oauth2:
        return f"OAuth 2.0: {CLIENT}" + ("; the four keys are not used" if setup.secrets.x_access_token else "")
    return f"all four, of account {setup.config.user_id}"


def check_login(setup: Setup) -> str:
    """Without asking X: an access token that is over is renewed by the next check, as by any request."""
    config, secret = setup.config, setup.secrets.x_client_secret
    if not setup.secrets.uses_oauth2 or secret is None:
        return "the four keys need none"
    if setup.database is None:
        raise NotExamined("because the tokens of OAuth 2.0 are in the database, which was not examined or is at fault")
    try:
        stored = TokenStore(setup.db, config.bot_id, config.user_id, secret).read()
    except errors.Unauthorized as error:
        raise AtFault(wrong_from(LOGIN, str(error))) from None
    return f"tokens of account {config.user_id}, good until {stored.expires_at:%F %T} UTC (world time) and then renewed"


def check_x(setup: Setup) -> str:
    config = setup.config
    setup.x = XInteractor(
        config.user_id,
        bot_id=config.bot_id,
        secrets=setup.secrets,
        db=setup.db if setup.is_enrolled else None,
        budget=config.budget,
        authorization=authorization_of(config.user_id, config.bot_id, setup.secrets, setup.database),
    )
    try:
        welcome = setup.x.introduce()
    except errors.Unauthorized as error:
        raise AtFault(wrong_from(LOGIN, str(error))) from None
    except errors.Retryable as error:
        raise NotExamined(f"because nothing may be asked now: {error}") from None
    address = setup.secrets.x_base_url
    if welcome.status is None:
        raise _no_answer(setup.secrets, welcome.error)
    if isinstance(welcome.error, errors.ServerUnavailable):
        problem = f"{address} answers, but not as it should: {welcome.error}"
        raise AtFault(WrongSetting("X_BASE_URL", problem, "try again later, or correct it"))
    setup.welcome = welcome
    return f"{address} answers"


def _no_answer(secrets: Secrets, error: errors.XError | None) -> AtFault:
    address = secrets.x_base_url
    host = urlsplit(address).hostname or ""
    try:
        socket.getaddrinfo(host, None)
    except OSError as failure:
        problem = f"got {address}, and {host} has no address here ({failure.strerror})"
        remedy = "correct the host, or the name service of this machine"
        return AtFault(WrongSetting("X_BASE_URL", problem, remedy))
    problem = f"no answer from {address} ({error.args[0] if error else 'nothing came'})"
    remedy = "correct it, or the way there: network, firewall, proxy (HTTPS_PROXY), certificates, this machine's clock"
    return AtFault(WrongSetting("X_BASE_URL", problem, remedy))


def check_clock(setup: Setup) -> str:
    """Before the keys, because X refuses what was signed at a wrong time as if the keys were wrong."""
    ahead = setup.welcome.clock_ahead
    if ahead is None:
        return "X does not say what time it is there"
    if abs(ahead) <= CLOCK_TOLERANCE:
        return "that of X, as far as a second tells" if not ahead else f"{abs(ahead).total_seconds():.0f} s off X's"
    way = "behind" if ahead > timedelta() else "ahead of"
    problem = f"this machine's clock is {abs(ahead).total_seconds():,.0f} s {way} X's"
    raise AtFault(WrongSetting("system clock", problem, "let it be set by NTP, as with `timedatectl set-ntp true`"))


def check_account(setup: Setup) -> str:
    welcome, user_id = setup.welcome, setup.config.user_id
    if welcome.error is not None:
        raise _refused(setup, welcome.error)
    if welcome.user is None:
        problem = f"what answers at {setup.secrets.x_base_url} does not say whose keys these are"
        raise AtFault(WrongSetting("X_BASE_URL", problem, "correct it: that is no API of X"))
    if welcome.user.user_id != user_id:
        problem = f"got {user_id}, but the keys are those of @{welcome.user.handle}, {welcome.user.user_id}"
        raise AtFault(
            WrongSetting("user_id", problem, "make an access token for the bot's account, or correct user_id")
        )
    return f"@{welcome.user.handle}, {user_id}"


def _refused(setup: Setup, error: errors.XError) -> AtFault | NotExamined:
    if isinstance(error, errors.RateLimited):
        return NotExamined(f"because X's window is empty: {error}")
    said = f"X refuses: {error}"
    if isinstance(error, errors.Unauthorized):
        if setup.secrets.uses_oauth2:
            return AtFault(
                WrongSetting(LOGIN, said, "run it again: the consent was taken back, or the app is not let in")
            )
        remedy = "take all four again from the app's page on console.x.com: one is wrong, or was made anew since"
        return AtFault(WrongSetting(KEYS, said, remedy))
    if isinstance(error, errors.CreditsDepleted):
        return AtFault(WrongSetting("budget.tier", said, "buy credits on console.x.com, or name the tier you have"))
    if isinstance(error, errors.AccountTrouble):
        return AtFault(WrongSetting("user_id", said, "log in to X as the bot's account and do what it asks for"))
    if isinstance(error, errors.NotAllowed):
        remedy = "on console.x.com, put the app into a project and give it 'Read and write', then make the token anew"
        return AtFault(WrongSetting("app permissions", said, remedy))
    return AtFault(WrongSetting("X_BASE_URL", f"it answers as X does not: {error}", "correct it: that is no API of X"))


def check_permissions(setup: Setup) -> str:
    welcome, config = setup.welcome, setup.config
    if not config.live:
        return "a dry run needs no more than reading"
    if _is_read_only(welcome):
        raise AtFault(
            WrongSetting(
                "app permissions",
                "the app may only read, and live is true",
                "give it 'Read and write' on console.x.com, then make X_ACCESS_TOKEN and its secret anew",
            )
        )
    if setup.is_enrolled:
        verdict = Capabilities(setup.db, config.bot_id, config.budget.tier).allows(Ability.POST)
        if not verdict.granted:
            again = f"; it is tried again at {verdict.retry_at:%F %T} UTC (world time)" if verdict.retry_at else ""
            remedy = f"look at the table capabilities ({ACCOUNT}, {Ability.POST}) and at the account{again}"
            raise AtFault(WrongSetting("app permissions", f"X has refused to post: {verdict.reason}", remedy))
    return welcome.access if welcome.access else "X does not say, and has refused no post"


def _is_read_only(welcome: Welcome) -> bool:
    return welcome.access is not None and "write" not in welcome.access


def check_handles(setup: Setup) -> str:
    handles = setup.config.accounts_to_follow
    known = _known_handles(setup)
    unknown = [handle for handle in handles if handle.lower() not in known]
    missing = {handle: known[handle.lower()] for handle in handles if known.get(handle.lower())}
    if unknown:
        if setup.x is None:
            raise NotExamined("because X was not asked")
        try:
            missing |= setup.x.resolve_handles(unknown)[1]
        except errors.XError as error:
            raise NotExamined(f"because X does not say: {error}") from None
    if missing:
        remedy = "correct or remove it"
        raise AtFault(
            *(
                WrongSetting("accounts_to_follow", f"@{handle} is nobody: {why}", remedy)
                for handle, why in sorted(missing.items())
            )
        )
    return f"{len(handles)} of them, all there" + (f"; X was asked for {len(unknown)}" if unknown else "")


def _known_handles(setup: Setup) -> dict[str, str | None]:
    """For each handle that the bot has looked up, in lower case, why it is nobody; None for somebody."""
    if not setup.is_enrolled:
        return {}
    with setup.db.transaction() as session:
        rows = session.scalars(
            select(SeedHandle).where(SeedHandle.bot_id == setup.config.bot_id, SeedHandle.state != HandleState.PENDING)
        )
        return {
            row.handle.lower(): None if row.state == HandleState.RESOLVED else row.reason or "not found" for row in rows
        }


CHECKS = (
    Check("keys", check_keys, ("config", "environment")),
    Check("login", check_login, ("keys",)),
    Check("x", check_x, ("login",)),
    Check("clock", check_clock, ("x",)),
    Check("account", check_account, ("clock",)),
    Check("permissions", check_permissions, ("account",)),
    Check("handles", check_handles, ("account",)),
)
