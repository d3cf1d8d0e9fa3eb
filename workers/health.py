"""Whether a service does its work, as an exit status: what a container's health check runs.

    python -m workers.health io                   the I/O worker io@HOST
    python -m workers.health generation training  both nodes of the GPU service
    python -m workers.health beat --schedule FILE
    python -m workers.health flower
    python -m workers.health monitor

A node that answers a ping may still have lost its queues to a reconnect (celery/celery#8030, #9054). So it has to name
the queues that it consumes, and to carry out a task that is sent to it and to nobody else. Where every slot of it is at
work it cannot, and then none of them may have been for longer than the longest task takes.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import os
import socket
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from workers.pulse import pulse_file

REPLY_SECONDS = 5.0
ECHO_SECONDS = 10.0
# The longest that any one task may take, in wall seconds. Of training it is Celery's own limit, and what ends it.
LONGEST_SECONDS = {"io": 900.0, "generation": 3600.0, "training": 6.1 * 3600}
# The slowest tick comes every ten seconds.
PULSE_SECONDS = 60.0
TICK_SECONDS = 15.0
FLOWER_PORT = 5555
MONITOR_PORT = 9464
OBSERVATION_SECONDS = 300.0  # `monitor.interval` is 240 at most


class Unhealthy(RuntimeError):
    """A service does not do its work. The message says what is missing."""


def check_node(name: str) -> None:
    """Check one Celery node on this host; of `io-2` the kind is `io`.

    Raises:
        Unhealthy: it does not answer, does not consume its queues, or does not carry out tasks.
    """
    from celery.utils.nodenames import nodename

    check_node_anywhere(nodename(name, socket.gethostname()))


def check_node_anywhere(node: str) -> None:
    """Check one Celery node by its whole name, on whichever host, as `io-2@HOST`.

    Raises:
        Unhealthy: as `check_node`.
    """
    from app import app

    kind = kind_of(node)
    # One reply is all there can be; without the limit each question would wait out its time.
    inspect = app.control.inspect(destination=[node], timeout=REPLY_SECONDS, limit=1)
    consumed = {queue["name"] for queue in _reply(inspect.active_queues(), node)}
    # One that somebody has started by hand under another name may do whatever it likes.
    if lost := sorted(set(_queues().get(kind, ())) - consumed):
        raise Unhealthy(f"{node} does not consume {', '.join(lost)}")
    longest = LONGEST_SECONDS.get(kind, max(LONGEST_SECONDS.values()))
    if _all_busy(inspect, node, longest) or echoes(app, node):
        return
    # It may have taken up something long just before the echo came.
    if not _all_busy(inspect, node, longest):
        raise Unhealthy(f"{node} answers but did not carry out a task within {ECHO_SECONDS:.0f} s")


def kind_of(node: str) -> str:
    """The kind of a node by its name: `io-2@HOST` is `io`."""
    return node.partition("@")[0].partition("-")[0]


def consumers() -> dict[str, list[str]]:
    """For each queue, the nodes that say they consume it, on whichever host; waits for replies for some seconds."""
    from app import app

    replies = app.control.inspect(timeout=REPLY_SECONDS).active_queues() or {}
    return {
        queue: sorted(node for node, consumed in replies.items() if queue in {item["name"] for item in consumed})
        for queues in _queues().values()
        for queue in queues
    }


def check_ticks() -> None:
    """Check that some beat, on whichever host, sends ticks to the broker: wait until one comes.

    Raises:
        Unhealthy: none came within the time.
    """
    from app import app
    from app.celery import TICKS

    ticks: list[str] = []

    def note(event: dict[str, Any]) -> None:
        if event["name"] in TICKS.values() and "scheduled" in str(event["kwargs"]):
            ticks.append(event["name"])

    deadline = time.monotonic() + TICK_SECONDS
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"task-sent": note})
        try:
            # It goes on with any event, also a worker's heartbeat, and raises where none comes for so long.
            for _ in receiver.itercapture(timeout=TICK_SECONDS, wakeup=False):
                if ticks or time.monotonic() > deadline:
                    break
        except TimeoutError:
            ticks.clear()
    if not ticks:
        raise Unhealthy(f"beat has sent no tick for {TICK_SECONDS:.0f} s")


def _queues() -> dict[str, tuple[str, ...]]:
    """The queues that each kind of node consumes."""
    from app.celery import GENERATION_QUEUES, IO_QUEUES, TRAINING_QUEUES

    return {"io": IO_QUEUES, "generation": GENERATION_QUEUES, "training": TRAINING_QUEUES}


def echoes(app: Any, node: str, seconds: float = ECHO_SECONDS) -> bool:
    """Whether a node carries out a task that is sent to its own queue within this time."""
    from celery.utils.nodenames import worker_direct
    from kombu.entity import Queue

    reply_to = Queue(f"echo.{uuid.uuid4().hex}", durable=False, exclusive=True, auto_delete=True)
    answers: list[Any] = []
    with app.connection_for_read() as connection:
        consumer = connection.Consumer(
            [reply_to], no_ack=True, accept=["json"], callbacks=[lambda body, _: answers.append(body)]
        )
        with consumer:
            # It expires, so that a node which comes back later does not answer a question that nobody asks any more.
            app.send_task("app.tasks.echo", args=[reply_to.name], queue=worker_direct(node), expires=seconds)
            try:
                connection.drain_events(timeout=seconds)
            except TimeoutError:
                return False
    return answers == [{"node": node}]


def _all_busy(inspect: Any, node: str, longest: float) -> bool:
    """Whether every slot of the node's pool is at work.

    Raises:
        Unhealthy: all of them are, and one for longer than any task takes.
    """
    slots = _reply(inspect.stats(), node)["pool"]["max-concurrency"]
    running = [task for task in _reply(inspect.active(), node) if task["time_start"] is not None]
    if len(running) < slots:
        return False
    oldest = min(running, key=lambda task: task["time_start"])
    if (age := time.time() - oldest["time_start"]) > longest:
        raise Unhealthy(f"{node} has been at {oldest['name']} for {age:.0f} s")
    return True


def _reply(replies: dict[str, Any] | None, node: str) -> Any:
    if not replies or node not in replies:
        raise Unhealthy(f"{node} does not answer within {REPLY_SECONDS:.0f} s")
    return replies[node]


def check_beat(schedule: Path) -> None:
    """Check that the broker took a tick a moment ago.

    Raises:
        Unhealthy: it took none for longer than any tick is apart.
    """
    file = pulse_file(schedule)
    try:
        age = time.time() - file.stat().st_mtime
    except FileNotFoundError:
        raise Unhealthy(f"beat has sent no tick yet: there is no {file}") from None
    if age > PULSE_SECONDS:
        raise Unhealthy(f"beat has sent no tick for {age:.0f} s")


def check_flower(credentials: str, port: int = FLOWER_PORT) -> None:
    """Check that Flower answers whoever has the password, and nobody else.

    Args:
        credentials: as USER:PASSWORD.

    Raises:
        Unhealthy: it does not answer, or answers without the password.
    """
    key = {"Authorization": f"Basic {base64.b64encode(credentials.encode()).decode()}"}
    for path, headers, wanted in (("/api/task/types", key, 200), ("/", {}, 401), ("/metrics", {}, 401)):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REPLY_SECONDS)
            connection.request("GET", path, headers=headers)
            status = connection.getresponse().status
            connection.close()
        except OSError as error:
            raise Unhealthy(f"Flower does not answer: {error}") from None
        if status != wanted:
            raise Unhealthy(f"Flower answered {path} {'with' if headers else 'without'} its password by {status}")


def check_monitor(port: int = MONITOR_PORT) -> None:
    """Check that the monitor serves what it saw a moment ago; of a database that is away it has to tell.

    Raises:
        Unhealthy: it does not answer, or its last look is old and it raised no alarm about it.
    """
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REPLY_SECONDS)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
    except OSError as error:
        raise Unhealthy(f"the monitor does not answer: {error}") from None
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    age = float(values.get("explorer_observation_age_seconds", "inf"))
    if age > OBSERVATION_SECONDS and float(values.get('explorer_alarm{alarm="database"}', "0")) == 0:
        raise Unhealthy(f"the monitor's last look was {age:.0f} s ago")


def main(arguments: list[str] | None = None) -> int:
    """Returns 0 if everything named does its work, else 1 and a line for what does not."""
    parser = argparse.ArgumentParser(prog="python -m workers.health", description="Whether a service does its work.")
    kinds = f"beat, flower, monitor, or a node: {', '.join(LONGEST_SECONDS)}, also numbered as io-2"
    parser.add_argument("services", nargs="+", metavar="SERVICE", help=kinds)
    parser.add_argument("--schedule", type=Path, default=Path("celerybeat-schedule"), help="beat's schedule file")
    options = parser.parse_args(arguments)
    for service in options.services:
        if service not in {"beat", "flower", "monitor"} and service.partition("-")[0] not in LONGEST_SECONDS:
            parser.error(f"{service}: no such service; there are {kinds}")
    sick = 0
    for service in options.services:
        try:
            if service == "beat":
                check_beat(options.schedule)
            elif service == "flower":
                check_flower(os.environ.get("FLOWER_BASIC_AUTH", ""))
            elif service == "monitor":
                check_monitor()
            else:
                check_node(service)
        except Unhealthy as problem:
            sys.stderr.write(f"{problem}\n")
            sick = 1
    return sick


if __name__ == "__main__":
    raise SystemExit(main())
