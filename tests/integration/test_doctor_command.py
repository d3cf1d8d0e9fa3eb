"""The command `explorer doctor`: what it prints, its exit codes, and the services that should run."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from healthy_setup import Setting

from app import clock
from app.doctor.findings import Finding

ROOT = Path(__file__).parents[2]
COMMAND = "from app.cli import main; main()"
IMPATIENT = f"from workers import health; health.REPLY_SECONDS = health.TICK_SECONDS = 1.0; {COMMAND}"
LIGHT = f"""
import atexit, sys
atexit.register(lambda: print("heavy:", sorted({{"torch", "transformers", "peft"}} & sys.modules.keys())))
{COMMAND}
"""


def doctor(setting: Setting, *options: str, code: str = COMMAND) -> tuple[int, str]:
    setting.write()
    command = [sys.executable, "-c", code, "doctor", "--config", str(setting.config_file), *options]
    done = subprocess.run(
        command, cwd=setting.directory, env={**os.environ, **setting.env, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not done.stderr
    return done.returncode, done.stdout


def test_the_command_tells_people_and_machines(setting: Setting) -> None:
    code, said = doctor(setting, code=LIGHT)
    assert (code, said.splitlines()[-2:]) == (0, ["nothing at fault", "heavy: []"])
    setting.env["X_API_SECRET"] = "not-the-secret"
    code, said = doctor(setting)
    assert (code, said.splitlines()[-1]) == (1, "1 at fault")
    line = next(line for line in said.splitlines() if line.startswith("fault"))
    assert line.startswith("fault   account         X_API_KEY, X_API_SECRET")
    code, said = doctor(setting, "--json")
    report = json.loads(said)
    assert (code, report["faults"]) == (1, 1)
    assert [finding["check"] for finding in report["findings"] if finding["state"] == "fault"] == ["account"]
    assert {field.name for field in dataclasses.fields(Finding)} == set(report["findings"][0])


def test_an_old_python_is_told_before_anything_needs_a_newer_one(setting: Setting) -> None:
    old = "import sys, app.cli; sys.version_info = (3, 10, 4); sys.modules['app.config'] = None; app.cli.main()"
    code, said = doctor(setting, code=old)
    assert code == 1
    assert said.splitlines()[0].startswith("fault   python          python: got 3.10.4; install Python 3.11 or later")


def test_one_room_is_examined_with_what_it_needs(setting: Setting) -> None:
    """As in a container that has the model and no keys of X."""
    for name in ("X_API_KEY", "X_API_SECRET", "X_ACCESS_TOKEN", "X_ACCESS_TOKEN_SECRET"):
        del setting.env[name]
    code, said = doctor(setting, "--only", "model", "--json")
    report = json.loads(said)
    assert (code, report["faults"]) == (0, 0)
    assert [finding["check"] for finding in report["findings"]] == [
        *("python", "config", "environment", "database", "schema", "bot", "shared_url"),
        *("packages", "model", "device", "checkpoint_dir", "checkpoints"),
    ]


def test_services_that_do_not_run_are_named_when_they_should(setting: Setting) -> None:
    """An I/O worker and beat run, the GPU service does not; then nothing does."""
    environment = {**os.environ, **setting.env, "PYTHONPATH": str(ROOT), "EXPLORER_CONFIG": str(setting.config_file)}
    setting.write()
    commands = (
        ["workers.io", "--name", "io", "--concurrency", "1"],
        ["celery", "-A", "app", "beat", "--schedule", str(setting.directory / "beat"), "--pidfile="],
    )
    with (setting.directory / "services.log").open("wb") as log:
        services = [
            subprocess.Popen([sys.executable, "-m", *command], env=environment, stdout=log, stderr=log, cwd=ROOT)
            for command in commands
        ]
        try:
            wait_for(lambda: " ready" in (setting.directory / "services.log").read_text())
            code, said = doctor(setting, "--running", "--json")
        finally:
            for service in services:
                service.kill()
                service.wait()
    found = [Finding(**finding) for finding in json.loads(said)["findings"]]
    faults = [finding for finding in found if finding.state == "fault"]
    assert [fault.setting for fault in faults] == ["queue generation", "queue training"]
    assert {finding.check: finding.message for finding in found}["beat"] == "sends ticks"
    code, said = doctor(setting, "--running", "--json", code=IMPATIENT)
    faults = [finding for finding in json.loads(said)["findings"] if finding["state"] == "fault"]
    assert code == 1
    assert {fault["check"] for fault in faults} == {"workers", "beat"}
    assert {fault["setting"] for fault in faults} > {"queue timeline", "queue publishing", "beat"}


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = clock.wall_now() + timedelta(seconds=seconds)
    while not condition():
        assert clock.wall_now() < deadline
        time.sleep(0.1)
