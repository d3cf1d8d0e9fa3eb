"""A RabbitMQ of the tests' own: its node, ports, cookie and files are nobody else's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
from kombu import Connection

from app.local.servers import free_port

# Debian's program on the path wants to become the user `rabbitmq`; the one that it starts in the end does not.
PLACES = ("/usr/lib/rabbitmq/bin", "/usr/local/sbin", "/opt/rabbitmq/sbin")
READY_SECONDS = 90.0


def program() -> str | None:
    """The server's program, if RabbitMQ is installed on this machine."""
    return shutil.which("rabbitmq-server", path=os.pathsep.join((*PLACES, os.environ["PATH"])))


class RabbitMQ:
    """One node, which keeps its queues in a folder."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port, self._tls_port, self._epmd = free_port(), free_port(), free_port()
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "plugins").write_text("[].")
        self.certificate, key = directory / "certificate.pem", directory / "key.pem"
        request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
        request += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        subprocess.run([*request, "-keyout", key, "-out", self.certificate], check=True, capture_output=True)
        (directory / "rabbitmq.conf").write_text(
            f"listeners.tcp.default = 127.0.0.1:{self._port}\nlisteners.ssl.default = 127.0.0.1:{self._tls_port}\n"
            f"ssl_options.cacertfile = {self.certificate}\nssl_options.certfile = {self.certificate}\n"
            f"ssl_options.keyfile = {key}\nvm_memory_high_watermark.relative = 0.8\ndisk_free_limit.absolute = 50MB\n"
        )

    @property
    def tls_url(self) -> str:
        return f"amqps://guest:guest@localhost:{self._tls_port}//"

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self._port}//"

    def start(self) -> str:
        """Start it, wait until it takes connections, and return its URL, which is the same each time."""
        command = program()
        assert command is not None
        with (self._directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [command], env=self._env(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        deadline = time.monotonic() + READY_SECONDS
        while not self._answers():
            assert self._process.poll() is None, (self._directory / "server.log").read_text()
            assert time.monotonic() < deadline, "RabbitMQ takes no connections"
            time.sleep(0.5)
        return self.url

    def crash(self) -> None:
        """End it as a power cut would."""
        for process in [*psutil.Process(self._process.pid).children(recursive=True), psutil.Process(self._process.pid)]:
            process.kill()
        self._process.wait(timeout=30)

    def stop(self) -> None:
        self.crash()
        for process in psutil.process_iter(["name", "cmdline"]):  # the port mapper leaves its parent, by design
            try:
                if process.name() == "epmd" and process.environ().get("ERL_EPMD_PORT") == str(self._epmd):
                    process.send_signal(signal.SIGKILL)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue

    def _answers(self) -> bool:
        try:
            with Connection(self.url, connect_timeout=5) as connection:
                connection.connect()
        except OSError:
            return False
        return True

    def _env(self) -> dict[str, str]:
        own = self._directory
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(own),  # where Erlang keeps its cookie
            "ERL_EPMD_PORT": str(self._epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"explorer{self._port}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONFIG_FILE": str(own / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(own / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(own / "data"),
            "RABBITMQ_LOG_BASE": str(own / "logs"),
            "RABBITMQ_PID_FILE": str(own / "pid"),
        }
