"""Redis: that it lets us in, takes messages, and keeps them."""

from __future__ import annotations

import redis

from app.config import WrongSetting
from app.doctor.findings import AtFault, Check, NotExamined
from app.doctor.setup import Setup, without_password

SETTING = "REDIS_URL"
SECONDS = 5.0
PROBE = "explorer:health"  # the key that the container's own health check writes too


def check_broker(setup: Setup) -> str:
    url = setup.secrets.redis_url.get_secret_value()
    shown = without_password(url)
    try:
        with _client(setup) as client:
            version = client.info("server")["redis_version"]
            # A full disk or memory leaves a server that answers and takes nothing.
            client.set(PROBE, "1", ex=60)
    except ValueError as error:
        raise AtFault(
            WrongSetting(SETTING, f"got {shown}: {error}", "give a redis:// address, as .env.example shows")
        ) from None
    except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as error:
        remedy = "correct the user or the password in it, as redis://:PASSWORD@HOST:PORT/0"
        raise AtFault(WrongSetting(SETTING, f"{shown} does not let us in: {error}", remedy)) from None
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise _unreachable(setup, shown, error) from None
    except redis.ResponseError as error:
        raise AtFault(
            WrongSetting(SETTING, f"{shown} takes no message: {error}", "free its disk or memory, or name its primary")
        ) from None
    except (redis.RedisError, LookupError, UnicodeDecodeError) as error:
        raise AtFault(
            WrongSetting(
                SETTING, f"what answers at {shown} is no Redis ({type(error).__name__})", "correct the address"
            )
        ) from None
    return f"Redis {version} at {shown}"


def _client(setup: Setup) -> redis.Redis:
    return redis.Redis.from_url(
        setup.secrets.redis_url.get_secret_value(), socket_connect_timeout=SECONDS, socket_timeout=SECONDS
    )


def _unreachable(setup: Setup, shown: str, error: redis.RedisError) -> AtFault | NotExamined:
    if "redis_url" not in setup.secrets.model_fields_set:
        return NotExamined(f"because {SETTING} is not set and nothing is at {shown}: `explorer up` brings its own")
    return AtFault(WrongSetting(SETTING, f"no connection to {shown}: {error}", "start Redis, or correct host and port"))


def check_eviction(setup: Setup) -> str:
    with _client(setup) as client:
        memory = client.info("memory")
    policy, most = memory["maxmemory_policy"], memory["maxmemory"]
    if policy == "noeviction" or not most:
        return f"{policy}, {f'{most / 2**20:,.0f} MiB' if most else 'without a limit of memory'}"
    raise AtFault(
        WrongSetting(
            "maxmemory-policy",
            f"got {policy}: a full Redis throws messages away",
            "set it to noeviction in the server's redis.conf",
        )
    )


CHECKS = (
    Check("broker", check_broker, ("environment",)),
    Check("eviction", check_eviction, ("broker",)),
)
