"""RabbitMQ: that it lets us in, takes a message and gives it back, without the management plug-in."""

from __future__ import annotations

import uuid

from amqp.exceptions import AccessRefused, AMQPError, NotAllowed
from kombu.connection import Connection

from app.broker import tls, transport_options
from app.doctor.findings import AtFault
from app.loading import WrongSetting, without_password

SETTING = "BROKER_URL"
SECONDS = 5.0


def check(url: str) -> str:
    """What is well of the broker.

    Raises:
        AtFault: it cannot be used.
    """
    shown = without_password(url)
    try:
        with Connection(
            url, connect_timeout=SECONDS, transport_options=transport_options(url), ssl=tls(url)
        ) as connection:
            version = connection.connection.server_properties.get("version", "of a version that it does not tell")
            _send_and_receive(connection)
    except AccessRefused as error:
        remedy = "correct the user or the password, or give that user configure, write and read on the virtual host"
        raise _fault(f"{shown} does not let us in: {error}", remedy) from None
    except NotAllowed as error:
        raise _fault(f"{shown} has no such virtual host for us: {error}", "make it, or correct it") from None
    except (AMQPError, OSError) as error:
        raise _fault(f"no connection to {shown}: {error}", "start RabbitMQ, or correct host and port") from None
    return f"RabbitMQ {version} at {shown}"


def _send_and_receive(connection: Connection) -> None:
    """A full disk or memory blocks whoever sends; then no answer comes, and that is an OSError too."""
    name = f"explorer.health.{uuid.uuid4().hex}"
    with connection.SimpleQueue(name, queue_opts={"durable": False, "exclusive": True, "auto_delete": True}) as queue:
        queue.put({"health": name}, serializer="json", timeout=SECONDS)
        queue.get(timeout=SECONDS).ack()


def _fault(problem: str, remedy: str) -> AtFault:
    return AtFault(WrongSetting(SETTING, problem, remedy))
