"""`explorer sandbox`: the same as the module, with its options and its exit status."""

from __future__ import annotations

import signal
import subprocess
import sys

from sandbox_server import StartServer

ENTRY = ("app.cli", "sandbox")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *ENTRY, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_command_serves_and_takes_every_option(start_server: StartServer) -> None:
    server = start_server(entry=ENTRY, options=("--community", "hearth", "--mechanism", "bounded_confidence"))
    assert server.control("health")["community"] == "hearth"
    assert server.process is not None
    server.process.terminate()
    assert server.process.wait(20) in {0, -signal.SIGTERM}  # the very process that was started: nothing is left behind


def test_help_lists_the_options_and_a_wrong_one_is_refused() -> None:
    shown = run("--help")
    assert shown.returncode == 0
    assert "explorer sandbox" in shown.stdout
    assert "--community" in shown.stdout
    wrong = run("--tier", "gold")
    assert wrong.returncode == 2
    assert "'gold'" in wrong.stderr
