"""The broker, Redis or RabbitMQ: that it lets us in, takes messages, and keeps them."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import redis

from app.doctor import rabbitmq
from app.doctor.findings import AtFault, Check, NotExamined
from app.doctor.setup import Setup
from app.loading import WrongSetting, without_password

SETTING = "REDIS_URL"
SECONDS = 5.0
PROBE = "explorer:health"  # the key that the container's own health check writes too


def check_broker(setup: Setup) -> str:
    if setup.secrets.broker_url is not None:
        return rabbitmq.check(setup.secrets.broker_url.get_secret_value())
    url = setup.secrets.redis_url.get_secret_value()
    shown = without_password(url)
    try:
        client = _client(url)
    except ValueError as error:
        raise _fault(f"got {shown}: {error}", "give a redis:// address, as .env.example shows") from None
    try:
        with client:
            version = client.info("server")["redis_version"]
            # A full disk or memory leaves a server that answers and takes nothing.
            client.set(PROBE, "1", ex=60)
    except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as error:
        remedy = "correct the user or the password in it, as redis://:PASSWORD@HOST:PORT/0"
        raise _fault(f"{shown} does not let us in: {error}", remedy) from None
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise _no_answer(setup, shown, error) from None
    except redis.ResponseError as error:
        raise _fault(f"{shown} takes no message: {error}", "free its disk or memory, or name its primary") from None
    except (redis.RedisError, LookupError, ValueError):
        raise _no_redis(shown) from None
    return f"Redis {version} at {shown}"


def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_connect_timeout=SECONDS, socket_timeout=SECONDS)


def _no_answer(setup: Setup, shown: str, error: redis.RedisError) -> AtFault | NotExamined:
    parts = urlsplit(setup.secrets.redis_url.get_secret_value())
    try:
        socket.create_connection((parts.hostname or "", parts.port or 6379), timeout=SECONDS).close()
    except OSError:
        if setup.may_lack("redis_url"):
            return NotExamined(f"because {SETTING} is not set and nothing is at {shown}: `explorer up` brings its own")
        return _fault(f"no connection to {shown}: {error}", "start Redis, or correct host and port")
    return _no_redis(shown)


def _no_redis(shown: str) -> AtFault:
    remedy = "correct host and port; a Redis behind TLS is a rediss:// address"
    return _fault(f"what listens at {shown} is no Redis, or does not answer as one", remedy)


def _fault(problem: str, remedy: str) -> AtFault:
    return AtFault(WrongSetting(SETTING, problem, remedy))


def check_eviction(setup: Setup) -> str:
    if setup.secrets.broker_url is not None:
        raise NotExamined("because the broker is RabbitMQ, which throws no message away for want of memory")
    with _client(setup.secrets.redis_url.get_secret_value()) as client:
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
