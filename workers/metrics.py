"""Memory and processor time of a service's own processes, for Prometheus: `EXPLORER_METRICS=HOST:PORT` serves them.

What PostgreSQL and the broker say of the bot is the monitor's to tell; this can only be told where the process runs.
The names are those of Prometheus' own client libraries. Its collector knows one process and no labels, and a GPU
service is a supervisor, two nodes, and a child for each training run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import psutil
import structlog
from celery import signals
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

log = structlog.get_logger()

VARIABLE = "EXPLORER_METRICS"
MAIN = "main"
LABELS = ("service", "process")


class ProcessMetrics(Collector):
    """Looks at processes when it is asked, so that a child is seen for as long as it lives.

    Args:
        service: io, gpu or beat.
        nodes: process ids of what the service's main process has started, by name. What one of these, or the main
            process, has started in turn is told as the children of it, taken together.
    """

    def __init__(self, service: str, nodes: Callable[[], Mapping[str, int]] = dict) -> None:
        self._service, self._nodes = service, nodes

    def collect(self) -> Iterator[Metric]:
        memory = GaugeMetricFamily("process_resident_memory_bytes", "Resident memory.", labels=LABELS)
        seconds = CounterMetricFamily("process_cpu_seconds", "Processor time, user and system.", labels=LABELS)
        for name, processes in self._processes().items():
            used = [found for found in map(_used, processes) if found is not None]
            if used:  # what has just ended is left out, and is no 0
                memory.add_metric((self._service, name), sum(resident for resident, _ in used))
                seconds.add_metric((self._service, name), sum(spent for _, spent in used))
        yield memory
        yield seconds

    def _processes(self) -> dict[str, list[psutil.Process]]:
        nodes = {**self._nodes(), MAIN: os.getpid()}
        found: dict[str, list[psutil.Process]] = {}
        for name, pid in nodes.items():
            try:
                process = psutil.Process(pid)
                children = process.children(recursive=True) if name != MAIN or len(nodes) == 1 else []
            except psutil.NoSuchProcess:
                continue
            found[name] = [process]
            if children:
                found[f"{name}-children"] = children
        return found


def serve(service: str, nodes: Callable[[], Mapping[str, int]] = dict) -> int | None:
    """Serve them where `EXPLORER_METRICS` says, from a thread.

    Returns:
        The port; None where the variable is not set, or the address cannot be had: a worker works without, too.

    Raises:
        SystemExit: the variable is no address.
    """
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return None
    host, _, port = wanted.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise SystemExit(f"{VARIABLE}: got {wanted!r}; write it as HOST:PORT, such as 127.0.0.1:9465")
    registry = CollectorRegistry()
    registry.register(ProcessMetrics(service, nodes))
    try:
        server, _ = start_http_server(int(port), addr=host.strip("[]"), registry=registry)
    except OSError as error:
        log.error("metrics.not_served", variable=VARIABLE, address=wanted, reason=str(error))
        return None
    log.info("metrics.serving", service=service, address=host, port=server.server_port)
    return int(server.server_port)


def _used(process: psutil.Process) -> tuple[int, float] | None:
    """Resident bytes and seconds of the processor; None of a process that has ended."""
    try:
        with process.oneshot():
            times = process.cpu_times()
            return process.memory_info().rss, times.user + times.system
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return None


@signals.beat_init.connect
def _of_beat(**_: Any) -> None:
    serve("beat")
