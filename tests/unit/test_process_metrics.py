"""What a service tells Prometheus of its own processes."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
import time
import urllib.request

import psutil
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from app.local.servers import free_port
from workers import metrics
from workers.metrics import ProcessMetrics

MEMORY, SECONDS = "process_resident_memory_bytes", "process_cpu_seconds_total"
SLEEPER = "import time; print('up', flush=True); time.sleep(60)"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEPER!r}])"


def figures(text: str) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels["process"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def read(collector: ProcessMetrics) -> dict[tuple[str, str], float]:
    registry = CollectorRegistry()
    registry.register(collector)
    return figures(generate_latest(registry).decode())


@pytest.fixture
def node() -> subprocess.Popen[bytes]:
    """A process with a child, as the training node has one while a run is under way."""
    process = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else ():
        child.kill()
    process.kill()
    process.wait()
    process.stdout.close()


def test_they_are_what_the_system_says(node: subprocess.Popen[bytes]) -> None:
    found = read(ProcessMetrics("gpu", lambda: {"training": node.pid}))
    assert {process for _, process in found} == {"main", "training", "training-children"}
    (child,) = psutil.Process(node.pid).children(recursive=True)
    assert found[MEMORY, "training"] == psutil.Process(node.pid).memory_info().rss
    assert found[MEMORY, "training-children"] == child.memory_info().rss
    own = psutil.Process().cpu_times()
    assert 0 < found[SECONDS, "main"] <= own.user + own.system


def test_a_child_that_has_ended_is_no_zero(node: subprocess.Popen[bytes]) -> None:
    collector = ProcessMetrics("gpu", lambda: {"training": node.pid})
    (child,) = psutil.Process(node.pid).children(recursive=True)
    child.kill()
    node.wait()
    assert {process for _, process in read(collector)} == {"main"}


def burn(_: int) -> None:
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass


def test_a_service_of_one_process_tells_of_its_pool() -> None:
    collector = ProcessMetrics("io")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.map(burn, [0])
        assert read(collector)[SECONDS, "main-children"] >= 0.3


def test_it_is_served_where_the_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(metrics.VARIABLE, f"127.0.0.1:{free_port()}")
    port = metrics.serve("io")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        assert figures(answer.read().decode())[MEMORY, "main"] > 1e6
    monkeypatch.delenv(metrics.VARIABLE)
    assert metrics.serve("io") is None


def test_a_port_that_is_taken_ends_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv(metrics.VARIABLE, f"127.0.0.1:{taken.getsockname()[1]}")
        assert metrics.serve("io") is None


@pytest.mark.parametrize("value", ["9465", ":9465", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:70000"])
def test_what_is_no_address_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(metrics.VARIABLE, value)
    with pytest.raises(SystemExit, match=f"^EXPLORER_METRICS: got '{value}'; write it as HOST:PORT"):
        metrics.serve("io")


def test_a_node_of_the_gpu_service_leaves_it_to_its_supervisor() -> None:
    """It has the variable, too, from the environment that it was started in."""
    code = "import app; app.app; import threading; print([thread.name for thread in threading.enumerate()])"
    env = {**os.environ, metrics.VARIABLE: f"127.0.0.1:{free_port()}"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "['MainThread']\n"
