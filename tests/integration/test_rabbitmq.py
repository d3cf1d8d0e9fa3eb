"""RabbitMQ as the broker, on a real one: workers, health, monitor and doctor, a crash of it, and the whole loop."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rabbitmq_server import RabbitMQ, program
from test_health import NODE, running, wait_until
from waiting import wait_for

from app.celery import settings
from app.doctor import rabbitmq
from app.doctor.findings import AtFault
from app.local.observer import Observer, duplicates
from app.local.report import count
from app.local.sandboxed import BOT_ID, config_writer, time_lapse_config
from app.local.stack import SandboxOptions, running_stack
from dbs.session import Database

ROOT = Path(__file__).parents[2]
WORKER = "from app import app; from workers.io import arguments; app.worker_main(arguments('io', 1))"
LOOK = "from app.monitor.observation import _queues; print(_queues())"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    if program() is None:
        pytest.skip("no rabbitmq-server on this machine: install the package of that name")
    node = RabbitMQ(tmp_path_factory.mktemp("rabbitmq"))
    node.start()
    yield node
    node.stop()


@pytest.fixture
def env(server: RabbitMQ) -> dict[str, str]:
    return {
        **os.environ,
        "BROKER_URL": server.url,
        "EXPLORER_CONFIG": str(ROOT / "explorer.example.yaml"),
        "PYTHONPATH": str(ROOT),
    }


def python(env: dict[str, str], *arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_tasks_wait_in_queues_that_outlive_a_node(server: RabbitMQ, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPLORER_CONFIG", str(ROOT / "explorer.example.yaml"))
    monkeypatch.setenv("BROKER_URL", server.url)
    made = settings()
    assert made["broker_url"] == server.url
    assert made["broker_transport_options"] == {"confirm_publish": True}
    assert {queue.queue_arguments["x-queue-type"] for queue in made["task_queues"]} == {"quorum"}
    monkeypatch.setenv("BROKER_URL", "")  # as compose passes on what is not set
    assert made["broker_url"] != settings()["broker_url"]
    assert {queue.queue_arguments for queue in settings()["task_queues"]} == {None}


def test_a_worker_at_work_is_healthy_also_after_a_crash_of_the_broker(
    env: dict[str, str], server: RabbitMQ, tmp_path: Path
) -> None:
    for _ in range(3):
        python(env, "-m", "celery", "-A", "app", "call", "app.tasks.jump_start")  # nobody consumes it here
    log = tmp_path / "worker.log"
    with running(env, log, "-c", WORKER):
        wait_until(lambda: f"{NODE} ready" in log.read_text())
        python(env, "-m", "workers.health", "io")
        assert "'training': 3" in python(env, "-c", LOOK)
        server.crash()
        server.start()
        wait_until(lambda: "training': 3" in python(env, "-c", LOOK))
        said = len(log.read_text())
        wait_until(lambda: is_healthy(env))
        assert "Traceback" not in log.read_text()[said:]


def is_healthy(env: dict[str, str]) -> bool:
    command = [sys.executable, "-m", "workers.health", "io"]
    return subprocess.run(command, env=env, capture_output=True, check=False).returncode == 0


def test_beat_sends_its_ticks(env: dict[str, str], tmp_path: Path) -> None:
    beat = ("-m", "celery", "-A", "app", "beat", f"--schedule={tmp_path / 'schedule'}", "--pidfile=")
    with running(env, tmp_path / "beat.log", *beat):
        ticks = "import workers.health as health; health.check_ticks()"
        python(env, "-c", ticks)


def test_the_doctor_tells_what_is_wrong_with_it(server: RabbitMQ) -> None:
    assert rabbitmq.check(server.url).startswith("RabbitMQ ")
    for url, problem in (
        (server.url.replace("guest:guest", "guest:a-wrong-password"), "does not let us in"),
        (server.url.rstrip("/") + "/nowhere", "no such virtual host"),
        (f"amqp://guest:a-password@127.0.0.1:{closed_port()}//", "no connection"),
    ):
        with pytest.raises(AtFault, match=problem) as found:
            rabbitmq.check(url)
        assert "password@" not in str(found.value)
        assert found.value.wrong[0].setting == "BROKER_URL"


def test_a_certificate_is_checked(env: dict[str, str], server: RabbitMQ) -> None:
    command = "import sys; from app.doctor import rabbitmq; print(rabbitmq.check(sys.argv[1]))"
    trusting = {**env, "SSL_CERT_FILE": str(server.certificate)}
    assert "RabbitMQ" in python(trusting, "-c", command, server.tls_url)
    python({**trusting, "BROKER_URL": server.tls_url}, "-m", "celery", "-A", "app", "call", "app.tasks.timeline")
    refused = subprocess.run(
        [sys.executable, "-c", command, server.tls_url], env=env, capture_output=True, text=True, check=False
    )
    assert "certificate verify failed" in refused.stderr


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_loop_posts_and_outlives_a_crash_of_the_broker(
    server: RabbitMQ, packaged_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_config = config_writer(time_lapse_config(tmp_path, packaged_model), tmp_path / "explorer.yaml")

    def before_bot(env: dict[str, str]) -> None:
        env["BROKER_URL"] = server.url
        write_config(env)

    with running_stack(
        tmp_path, tmp_path / "explorer.yaml", sandbox=SandboxOptions(speed=480), before_bot=before_bot
    ) as stack:
        database = Database(stack.env["DATABASE_URL"])

        def posted() -> int:
            with database.transaction() as session:
                return count(session, BOT_ID).posted

        wait_for(stack, "third post", 300, lambda: posted() >= 3)
        server.crash()
        server.start()
        already = posted()
        wait_for(stack, "further post", 300, lambda: posted() > already)
        assert duplicates(Observer(stack.env["X_BASE_URL"]).writes()) == 0
        database.close()
