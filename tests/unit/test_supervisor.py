"""The supervisor with real processes: restarts, backs off, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from workers.supervisor import Service, Supervisor

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
# Starts a child of its own, as a prefork worker does, and ignores the polite signal.
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); print('up', flush=True);"
    "time.sleep(600)",
]


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_died_is_started_again(tmp_path: Path) -> None:
    supervisor = Supervisor([Service("a", SLEEPER)], log_dir=tmp_path)
    supervisor.start()
    first = supervisor.pids()["a"]
    os.kill(first, signal.SIGKILL)

    def restarted() -> bool:
        supervisor.tend()
        return supervisor.pids().get("a") not in {None, first}

    wait_until(restarted)
    assert supervisor.restarts == 1
    supervisor.stop()
    assert supervisor.pids() == {}


KILLED = """
import sys, time
from workers.supervisor import Service, Supervisor
node = "import os, subprocess, sys, time; from workers import leash; leash.hold();" \
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);" \
    "print(os.getpid(), child.pid, flush=True); time.sleep(600)"
Supervisor([Service("node", [sys.executable, "-c", node])]).start()
time.sleep(600)
"""


def test_nothing_outlives_a_supervisor_that_was_killed() -> None:
    supervisor = subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout is not None
    lines = iter(supervisor.stdout.readline, "")
    node, child = next(map(int, line.split()) for line in lines if line.replace(" ", "").strip().isdigit())
    assert psutil.pid_exists(node)
    supervisor.kill()
    supervisor.wait()
    wait_until(lambda: not psutil.pid_exists(node) and not psutil.pid_exists(child))
    supervisor.stdout.close()


def test_what_dies_at_once_is_not_started_in_a_hurry(tmp_path: Path) -> None:
    supervisor = Supervisor([Service("a", [sys.executable, "-c", "raise SystemExit(3)"])], log_dir=tmp_path)
    supervisor.start()
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        supervisor.tend()
        time.sleep(0.05)
    supervisor.stop()
    # Waits of 0.5, 1 and 2 seconds leave room for two restarts in three seconds, not for sixty.
    assert 1 <= supervisor.restarts <= 2


def test_a_group_that_will_not_end_is_killed_whole(tmp_path: Path) -> None:
    supervisor = Supervisor([Service("a", STUBBORN)], log_dir=tmp_path, grace_seconds=0.5)
    supervisor.start()
    wait_until(lambda: "up" in (tmp_path / "a.log").read_text())
    leader = psutil.Process(supervisor.pids()["a"])
    family = [leader, *leader.children(recursive=True)]
    assert len(family) == 2
    supervisor.stop()
    wait_until(lambda: not any(process.is_running() and process.status() != "zombie" for process in family))


def test_a_service_gets_its_environment_and_its_niceness(tmp_path: Path) -> None:
    code = "import os, time; print(os.environ['MARK'], os.nice(0), flush=True); time.sleep(600)"
    # os.nice is read a moment after the start, when the supervisor has set it.
    command = [sys.executable, "-c", f"import time; time.sleep(0.5); {code}"]
    supervisor = Supervisor([Service("a", command, env={"MARK": "here"}, nice=5)], log_dir=tmp_path)
    supervisor.start()
    wait_until(lambda: "here" in (tmp_path / "a.log").read_text())
    assert (tmp_path / "a.log").read_text().split() == ["here", str(min(19, os.nice(0) + 5))]
    group = Path(f"/proc/{supervisor.pids()['a']}/autogroup")
    if group.exists():  # Linux with sched_autogroup: without this, niceness would mean nothing between services
        assert group.read_text().endswith("nice 5\n")
    supervisor.stop()
