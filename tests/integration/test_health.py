"""The health checks with real workers, a real beat and a real Flower: they pass what works and name what does not."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.local.servers import free_port
from workers.health import PULSE_SECONDS, Unhealthy, check_beat, check_flower
from workers.pulse import pulse_file

ROOT = Path(__file__).parents[2]
NODE = f"io@{socket.gethostname()}"
CREDENTIALS = "explorer:a-password"
# As workers/io.py starts one, with one slot and a task that can fill it.
WORKER = (
    "from app import app; from workers.io import arguments; app.worker_main([*arguments('io', 1), '-I', 'slow_task'])"
)


@pytest.fixture
def env(redis_url: str) -> dict[str, str]:
    return {
        **os.environ,
        "REDIS_URL": redis_url,
        "EXPLORER_CONFIG": str(ROOT / "explorer.example.yaml"),
        "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}",
    }


@contextmanager
def running(env: dict[str, str], log: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, *command], env=env, stdout=output, stderr=output)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def worker(env: dict[str, str], tmp_path: Path) -> Iterator[None]:
    with running(env, tmp_path / "worker.log", "-c", WORKER):
        wait_until(lambda: f"{NODE} ready" in (tmp_path / "worker.log").read_text())
        yield


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def python(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], env=env, capture_output=True, text=True, check=False)


def health(env: dict[str, str], *services: str) -> tuple[int, str]:
    done = python(env, "-m", "workers.health", *services)
    return done.returncode, done.stderr


def control(env: dict[str, str], *command: str) -> None:
    done = python(env, "-m", "celery", "-A", "app", "control", "--timeout", "5", "--destination", NODE, *command)
    assert done.returncode == 0, done.stderr


def busy(env: dict[str, str], seconds: float) -> None:
    code = f"import slow_task; slow_task.slow.delay({seconds})"
    assert python(env, "-c", code).returncode == 0
    time.sleep(1)


@pytest.mark.usefixtures("worker")
def test_a_worker_at_work_is_healthy(env: dict[str, str]) -> None:
    assert health(env, "io") == (0, "")


def test_a_worker_that_is_not_there_is_not(env: dict[str, str]) -> None:
    assert health(env, "io") == (1, f"{NODE} does not answer within 5 s\n")


@pytest.mark.usefixtures("worker")
def test_a_worker_that_lost_a_queue_is_not(env: dict[str, str]) -> None:
    control(env, "cancel_consumer", "timeline")
    assert health(env, "io") == (1, f"{NODE} does not consume timeline\n")


@pytest.mark.usefixtures("worker")
def test_a_worker_that_answers_but_takes_no_task_is_not(env: dict[str, str]) -> None:
    control(env, "cancel_consumer", f"{NODE}.dq2")
    assert health(env, "io") == (1, f"{NODE} answers but did not carry out a task within 10 s\n")


@pytest.mark.usefixtures("worker")
def test_a_busy_worker_is_healthy_for_as_long_as_a_task_takes(env: dict[str, str]) -> None:
    busy(env, 30)
    assert health(env, "io") == (0, "")
    impatient = (
        "import workers.health as health; health.LONGEST_SECONDS['io'] = 1; raise SystemExit(health.main(['io']))"
    )
    done = python(env, "-c", impatient)
    assert done.returncode == 1
    assert f"{NODE} has been at tests.slow for" in done.stderr


def test_a_check_leaves_nothing_in_the_broker(env: dict[str, str], worker: None) -> None:
    import redis

    with redis.Redis.from_url(env["REDIS_URL"]) as client:
        health(env, "io")
        before = set(client.keys())
        assert health(env, "io") == (0, "")
        assert not {key for key in set(client.keys()) - before if b"echo" in key}


def test_an_unknown_service_is_refused(env: dict[str, str]) -> None:
    code, said = health(env, "oi")
    assert code == 2
    assert "oi: no such service" in said


def test_beat_is_healthy_while_it_sends(env: dict[str, str], tmp_path: Path) -> None:
    schedule = tmp_path / "schedule"
    with pytest.raises(Unhealthy, match="no tick yet"):
        check_beat(schedule)
    beat = ("-m", "celery", "-A", "app", "beat", f"--schedule={schedule}", "--pidfile=")
    with running(env, tmp_path / "beat.log", *beat):
        wait_until(pulse_file(schedule).exists)
        check_beat(schedule)
        # A beat that the broker takes nothing from any more lives on, and its pulse grows old.
        first = pulse_file(schedule).stat().st_mtime
        wait_until(lambda: pulse_file(schedule).stat().st_mtime > first)
    old = time.time() - PULSE_SECONDS - 1
    os.utime(pulse_file(schedule), (old, old))
    with pytest.raises(Unhealthy, match="no tick for 61 s"):
        check_beat(schedule)


def test_flower_is_closed_to_whoever_lacks_the_password(env: dict[str, str], tmp_path: Path) -> None:
    port = free_port()
    flower = ("-m", "workers.flower", f"--port={port}", "--address=127.0.0.1")
    with pytest.raises(Unhealthy, match="does not answer"):
        check_flower(CREDENTIALS, port)
    with running({**env, "FLOWER_BASIC_AUTH": CREDENTIALS}, tmp_path / "flower.log", *flower):
        wait_until(lambda: is_listening(port))
        check_flower(CREDENTIALS, port)
        with pytest.raises(Unhealthy, match="/api/task/types with its password by 401"):
            check_flower("explorer:another", port)
        assert "flower_" in metrics(port, CREDENTIALS)
        with pytest.raises(urllib.error.HTTPError, match="401"):
            metrics(port, "explorer:another")


def test_a_flower_as_celery_starts_it_is_found_open(env: dict[str, str], tmp_path: Path) -> None:
    port = free_port()
    flower = ("-m", "celery", "-A", "app", "flower", f"--port={port}", f"--basic-auth={CREDENTIALS}")
    with running(env, tmp_path / "flower.log", *flower):
        wait_until(lambda: is_listening(port))
        with pytest.raises(Unhealthy, match="/metrics without its password by 200"):
            check_flower(CREDENTIALS, port)


def test_flower_does_not_start_without_a_password(env: dict[str, str]) -> None:
    done = python(env, "-m", "workers.flower")
    assert done.returncode == 1
    assert "FLOWER_BASIC_AUTH is not set" in done.stderr


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def metrics(port: int, credentials: str) -> str:
    key = base64.b64encode(credentials.encode()).decode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Authorization": f"Basic {key}"})
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own address
        return str(answer.read().decode())
