"""The config and the environment, and what can be told from them alone."""

from __future__ import annotations

import os

from pydantic import SecretStr
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from app.config import Secrets
from app.doctor.findings import AtFault, Check
from app.doctor.setup import Setup
from app.loading import ConfigError, WrongSetting, load_config, load_secrets, refuse_proof_settings
from app.reading import posts_per_member
from app.x.endpoints import Endpoint
from app.x.prices import charge_for
from app.x.requester import BATCH

# What a store of `shared_url` reads by itself.
OF_STORES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def check_config(setup: Setup) -> str:
    try:
        setup.config = load_config(setup.config_file)
    except ConfigError as error:
        raise AtFault(*error.wrong) from None
    return f"{setup.config_file}: bot {setup.config.bot_id}, {'live' if setup.config.live else 'a dry run'}"


def check_environment(setup: Setup) -> str:
    try:
        setup.secrets = load_secrets()
    except ConfigError as error:
        raise AtFault(*error.wrong) from None
    given = sorted(name.upper() for name in setup.secrets.model_fields_set if getattr(setup.secrets, name) is not None)
    return f"set: {', '.join(given) or 'nothing'}"


def check_proof_settings(setup: Setup) -> str:
    try:
        refuse_proof_settings(setup.config, setup.secrets)
    except ConfigError as error:
        raise AtFault(*error.wrong) from None
    return "nothing that only a proof may do, or X is a sandbox on this machine"


def check_budget(setup: Setup) -> str:
    """A request is put off where the most that it could cost would pass a cap: below that, it would never be made."""
    config, budget = setup.config, setup.config.budget
    if budget.tier != "pay-per-use":
        return f"on the {budget.tier} tier no request has a price of its own"
    posts = posts_per_member(config, len(config.accounts_to_follow))
    wanted = {
        f"reading one account ({posts} posts)": charge_for(Endpoint.USER_POSTS, budget).of(posts, 0),
        f"reading mentions ({BATCH} posts)": charge_for(Endpoint.MENTIONS, budget, owned=True).of(BATCH, 0),
        "one post": charge_for(Endpoint.CREATE_POST, budget).of(0, 0),
    }
    dearest = max(wanted, key=lambda what: wanted[what])
    caps = {"max_usd_per_day": budget.max_usd_per_day, "max_usd_per_month": budget.max_usd_per_month}
    wrong = [
        WrongSetting(
            f"budget.{name}",
            f"got {cap:g}, but {dearest} may cost ${wanted[dearest]}, and is put off for ever",
            f"raise it to {sum(wanted.values())} or more",
        )
        for name, cap in caps.items()
        if wanted[dearest] > cap
    ]
    if wrong:
        raise AtFault(*wrong)
    return f"{dearest} may cost ${wanted[dearest]}, of ${budget.max_usd_per_day:g} a day"


def secrets_of(secrets: Secrets) -> list[SecretStr | None]:
    """Everything in the environment that must not be shown, passwords within addresses included."""
    found: list[SecretStr | None] = [
        secrets.x_api_key,
        secrets.x_api_secret,
        secrets.x_access_token,
        secrets.x_access_token_secret,
        secrets.x_client_secret,
    ]
    found += [SecretStr(os.environ[name]) for name in OF_STORES if os.environ.get(name)]
    addresses = {"database_url": secrets.database_url, "redis_url": secrets.redis_url, "broker_url": secrets.broker_url}
    for name, url in addresses.items():
        if name not in secrets.model_fields_set or url is None:
            continue  # what everybody can read in our code is no secret
        try:
            parts = make_url(url.get_secret_value())
        except (ArgumentError, ValueError):
            found.append(url)  # nobody knows what in it is the password
        else:
            passwords = (parts.password, parts.query.get("password"))
            found += [SecretStr(str(password)) for password in passwords if password]
    return found


CHECKS = (
    Check("config", check_config),
    Check("environment", check_environment),
    Check("proof settings", check_proof_settings, ("config", "environment")),
    Check("budget", check_budget, ("config",)),
)
