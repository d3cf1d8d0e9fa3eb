"""A real Prometheus with the shipped config beside a running stack: every query of the dashboard returns data."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from waiting import becomes, wait_for

from app.local.sandboxed import config_writer, time_lapse_config
from app.local.servers import free_port
from app.local.stack import SandboxOptions, Stack, running_stack
from workers.supervisor import Service, Supervisor

DEPLOY = Path(__file__).parents[2] / "deploy"
PANELS = json.loads((DEPLOY / "grafana/dashboards/explorer.json").read_text())["panels"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel.get("targets", [])]
# Grafana sets it to four times the interval at which Prometheus asks, at least.
RATE_INTERVAL = "1m"
# Known once a checkpoint was promoted, which takes longer than this test.
UNKNOWN_AT_FIRST = {"Last reload", "Promotion to use"}
PASSWORD = "a-password"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        shutil.which("prometheus") is None, reason="prometheus is not installed (Debian's package `prometheus`)"
    ),
]


def config_for(directory: Path, addresses: dict[str, str]) -> Path:
    """The shipped config with the addresses of this run, asking every two seconds."""
    shutil.copy(DEPLOY / "prometheus/alerts.yml", directory)
    settings = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    settings["global"] = {"scrape_interval": "2s", "evaluation_interval": "2s"}
    for job in settings["scrape_configs"]:
        if job["job_name"] == "workers":  # by the name service of compose, which is not here
            (found,) = job.pop("dns_sd_configs")
            job["static_configs"] = [{"targets": [addresses[name] for name in found["names"]]}]
            continue
        for static in job["static_configs"]:
            static["targets"] = [addresses[target] for target in static["targets"]]
        if "basic_auth" in job:
            job["basic_auth"]["password_file"] = str(directory / "flower-password")
    (directory / "flower-password").write_text(PASSWORD)
    (directory / "prometheus.yml").write_text(yaml.safe_dump(settings))
    return directory / "prometheus.yml"


@contextmanager
def watched(stack: Stack) -> Iterator[str]:
    """The monitor, Flower and Prometheus beside a stack, tended with it; yields the address of Prometheus."""
    monitor, flower, prometheus = (f"127.0.0.1:{free_port()}" for _ in range(3))
    workers = {"beat": "beat", "io-worker": "io-1", "gpu-worker": "gpu"}
    served = {name: stack.metrics[service] for name, service in workers.items()}
    config = config_for(stack.directory, {"monitor:9464": monitor, "flower:5555": flower, **served})
    env = {**stack.env, "FLOWER_BASIC_AUTH": f"explorer:{PASSWORD}"}
    services = [
        Service("monitor", [sys.executable, "-m", "app.cli", "monitor", "--port", monitor.split(":")[1]], env=env),
        Service("flower", [sys.executable, "-m", "workers.flower", "--address=127.0.0.1",
                           f"--port={flower.split(':')[1]}"], env=env),
        Service("prometheus", ["prometheus", f"--config.file={config}", f"--web.listen-address={prometheus}",
                               f"--storage.tsdb.path={stack.directory / 'prometheus'}"]),
    ]  # fmt: skip
    supervisor = Supervisor(services, log_dir=stack.directory / "logs")
    supervisor.start()
    stack.supervisors.append(supervisor)
    try:
        yield f"http://{prometheus}"
    finally:
        stack.supervisors.remove(supervisor)
        supervisor.stop()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, packaged_model: Path) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("stack")
    config = time_lapse_config(directory, packaged_model) | {"monitor": {"interval": 2}}
    write_config = config_writer(config, directory / "explorer.yaml")
    before = Path.cwd()
    os.chdir(directory)  # where a running stack leaves its addresses
    try:
        with running_stack(
            directory, directory / "explorer.yaml", sandbox=SandboxOptions(speed=480), before_bot=write_config
        ) as running:
            yield running
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def prometheus(stack: Stack) -> Iterator[str]:
    with watched(stack) as address:
        yield address


def values(prometheus: str, expression: str) -> list[float]:
    """What a query gives now, with Grafana's variables filled in."""
    query = expression.replace("$__rate_interval", RATE_INTERVAL)
    try:
        answer = requests.get(f"{prometheus}/api/v1/query", params={"query": query}, timeout=10)
    except requests.ConnectionError:
        return []  # it is still starting
    body: dict[str, Any] = answer.json()
    assert body["status"] == "success", f"{query}: {body}"
    return [float(row["value"][1]) for row in body["data"]["result"]]


def test_all_are_scraped_flower_with_its_password(stack: Stack, prometheus: str) -> None:
    wait_for(stack, "scrape of all five", 120, lambda: values(prometheus, "up") == [1.0] * 5)


def test_each_process_of_a_service_tells_of_itself(stack: Stack, prometheus: str) -> None:
    of_gpu = {("gpu", process) for process in ("main", "generation", "training", "training-children")}
    every = {("beat", "main"), ("io", "main"), *of_gpu}

    def seen() -> set[tuple[str, str]]:
        query = {"query": 'process_resident_memory_bytes{job="workers"}'}
        answer = requests.get(f"{prometheus}/api/v1/query", params=query, timeout=10).json()
        rows = [row["metric"] for row in answer["data"]["result"] if float(row["value"][1]) > 1e6]
        return {(row["service"], row["process"]) for row in rows}

    wait_for(stack, "a figure of each process", 120, lambda: seen() >= every)
    others = 'count by (job) (process_resident_memory_bytes{job!="workers"})'
    wait_for(stack, "figures of the monitor and Flower", 120, lambda: values(prometheus, others) == [1.0, 1.0])


def test_posts_are_rewarded(stack: Stack, prometheus: str) -> None:
    def rewarded() -> bool:
        return any(value > 0 for value in values(prometheus, "sum(explorer_checkpoint_rewards_24h)"))

    wait_for(stack, "reward", 600, rewarded)


@pytest.mark.parametrize(("title", "expression"), QUERIES, ids=[title for title, _ in QUERIES])
def test_a_query_of_the_dashboard_returns_data(stack: Stack, prometheus: str, title: str, expression: str) -> None:
    def has_data() -> bool:
        found = values(prometheus, expression)
        return bool(found) and (title in UNKNOWN_AT_FIRST or not all(math.isnan(value) for value in found))

    assert becomes(stack, 120, has_data), f"{expression}: {values(prometheus, expression)}"
