"""The broker: Redis, or RabbitMQ where more than one machine is. What Celery has to be told for each.

Either may lose everything that it holds (`docs/rabbitmq.md`); Postgres knows what is due.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from kombu.entity import Queue

RABBITMQ = frozenset({"amqp", "amqps"})
REDIS_OPTIONS = {
    # A tick that is older than this was lost with its worker; the next one is better than a second run.
    "visibility_timeout": 3600,
    "socket_keepalive": True,
}
# A message counts as sent when the broker says that it has it, not when it has left.
RABBITMQ_OPTIONS = {"confirm_publish": True}
# RabbitMQ closes the channel of a consumer that has not acknowledged for half an hour, and the longest run takes six.
# https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout
CONSUMER_TIMEOUT_MS = 8 * 3600 * 1000


def is_rabbitmq(url: str) -> bool:
    return urlsplit(url).scheme in RABBITMQ


def transport_options(url: str) -> dict[str, Any]:
    return dict(RABBITMQ_OPTIONS if is_rabbitmq(url) else REDIS_OPTIONS)


def tls(url: str) -> dict[str, Any] | None:
    """What an amqps:// connection is checked with: the host's name, and the authorities of the machine.

    Celery by itself would take any certificate. Another authority is named by `SSL_CERT_FILE`, as OpenSSL reads it.
    """
    if urlsplit(url).scheme != "amqps":
        return None
    return {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": urlsplit(url).hostname}


def queues(url: str, names: Iterable[str]) -> list[Queue]:
    """The bot's queues. On RabbitMQ they are quorum queues: on every node of a cluster, and on disk."""
    arguments = {"x-queue-type": "quorum", "x-consumer-timeout": CONSUMER_TIMEOUT_MS} if is_rabbitmq(url) else None
    return [Queue(name, queue_arguments=arguments) for name in names]
