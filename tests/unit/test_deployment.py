"""What the images and the compose file say, held to the code that they run."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from app import clock
from app.celery import IO_QUEUES, settings
from app.loading import load_config
from app.local import sandboxed
from app.sandbox.communityfile import load
from workers.health import LONGEST_SECONDS
from workers.io import arguments

ROOT = Path(__file__).parents[2]
COMPOSE_FILE = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_FILE)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONE_SHOT = {"migrate", "sandbox-model"}
MONITORING = {"prometheus", "grafana"}
FOREIGN = {"postgres", "redis", *MONITORING}  # their images are made by others


def make_env(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/make_env.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def written(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text().splitlines() if not line.startswith("#"))


def test_make_env_writes_all_that_compose_asks_for(tmp_path: Path) -> None:
    assert make_env("--out", str(tmp_path / "env")).returncode == 0
    values = written(tmp_path / "env")
    assert set(re.findall(r"\$\{(\w+):?\?", COMPOSE_FILE)) <= values.keys()
    # A variable that compose does not read would be one that the services never see.
    assert values.keys() - {"COMPOSE_PROFILES"} <= set(re.findall(r"\$\{(\w+)", COMPOSE_FILE))
    assert (tmp_path / "env").stat().st_mode & 0o777 == 0o600
    # The pace of the bot's config is made for this speed; the script cannot import it, as it runs before anything is
    # installed.
    assert clock.parse(values["EXPLORER_CLOCK"]).speed == sandboxed.SPEED
    assert ROOT / values["EXPLORER_CONFIG_FILE"] == sandboxed.CONFIG


def test_two_envs_share_no_secret(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_env("--out", str(tmp_path / name))
    one, two = written(tmp_path / "one"), written(tmp_path / "two")
    secret = [name for name in one if "PASSWORD" in name or name.startswith("X_A")]
    assert len(secret) == 8
    assert not [name for name in secret if one[name] == two[name] or len(one[name]) < 20]


def test_make_env_overwrites_nothing(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("POSTGRES_PASSWORD=kept\n")
    done = make_env("--out", str(file))
    assert done.returncode == 1
    assert "is there already and was left as it is" in done.stderr
    assert file.read_text() == "POSTGRES_PASSWORD=kept\n"


def test_the_requirements_are_those_of_pyproject() -> None:
    script = [sys.executable, str(ROOT / "scripts/requirements.py")]
    done = subprocess.run([*script, "sandbox", "ops"], capture_output=True, text=True, check=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert done.stdout.splitlines() == [*project["dependencies"], *extras["sandbox"], *extras["ops"]]
    assert "torch" not in done.stdout
    unknown = subprocess.run([*script, "gpus"], capture_output=True, text=True, check=False)
    assert unknown.returncode == 1
    assert "gpus: no such extra" in unknown.stderr


def test_the_build_context_has_every_package_and_no_secret() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert {package.split(".")[0] for package in packages} <= sent
    assert not sent & {".env", ".git", "data", "checkpoints", "explorer.yaml"}


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - ONE_SHOT))
def test_a_service_restarts_and_is_checked(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert SERVICES[name]["healthcheck"]["test"]


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - {"postgres", "redis"}))
def test_a_container_may_write_to_volumes_only(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"]
    assert service["init"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - FOREIGN))
def test_our_own_containers_run_as_a_user_without_rights(name: str) -> None:
    service = SERVICES[name]
    dockerfile = (ROOT / service["build"]["dockerfile"]).read_text()
    assert "\nUSER explorer\n" in dockerfile


def test_a_stopped_worker_has_time_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPLORER_CONFIG", str(ROOT / "explorer.example.yaml"))
    soft = settings()["worker_soft_shutdown_timeout"]
    for name in ("io-worker", "gpu-worker"):
        assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > soft
        # Without it a worker that is told to end waits for its tasks for ever.
        assert SERVICES[name]["environment"]["REMAP_SIGTERM"] == "SIGQUIT"


def test_only_who_talks_to_x_has_its_keys() -> None:
    for secret in ("X_API_SECRET", "X_CLIENT_SECRET"):
        with_keys = {name for name, service in SERVICES.items() if secret in str(service.get("environment"))}
        assert with_keys == {"io-worker", "kickoff", "sandbox"}


def test_the_four_keys_may_be_empty_where_oauth2_is_used() -> None:
    environment = SERVICES["io-worker"]["environment"]
    assert environment["X_API_KEY"].startswith("${X_API_KEY?")
    assert (environment["X_CLIENT_ID"], environment["X_CLIENT_SECRET"]) == ("${X_CLIENT_ID:-}", "${X_CLIENT_SECRET:-}")


def test_the_kick_off_is_done_until_it_succeeds_and_nobody_waits_for_it() -> None:
    kickoff = SERVICES["kickoff"]
    # Without --yes: money is agreed to by a person.
    assert kickoff["command"] == ["sh", "-c", "explorer kickoff && touch /tmp/done && exec sleep infinity"]
    assert kickoff["healthcheck"]["test"] == ["CMD", "test", "-f", "/tmp/done"]  # noqa: S108 - the container's own
    # What it gathers must lie where the GPU service trains on it.
    assert kickoff["volumes"] == ["data:/app/data"] == SERVICES["gpu-worker"]["volumes"][:1]
    assert not [name for name, service in SERVICES.items() if "kickoff" in service.get("depends_on", {})]


def test_all_agree_on_world_time() -> None:
    clocks = {name: service.get("environment", {}).get("EXPLORER_CLOCK") for name, service in SERVICES.items()}
    without = {name for name, value in clocks.items() if value != "${EXPLORER_CLOCK:-wall}"}
    assert without == {*FOREIGN, "sandbox-model"}  # the figures of the monitoring are of wall time


def test_what_is_published_is_published_on_loopback() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports.keys() == {"flower", "monitor", "console", *MONITORING}
    assert all(port.startswith("127.0.0.1:") for published in ports.values() for port in published)


def test_the_images_of_others_are_named_with_their_version() -> None:
    assert all(re.search(r":v?\d", SERVICES[name]["image"]) for name in FOREIGN)


def test_a_part_that_nobody_asked_for_does_not_start() -> None:
    profiles = {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service}
    asked = {name: ["sandbox"] for name in ("sandbox", "sandbox-model")}
    assert profiles == asked | {name: ["monitoring"] for name in MONITORING}


def test_the_checked_nodes_are_those_that_the_commands_start() -> None:
    command = SERVICES["io-worker"]["command"]
    assert command[:3] == ["python", "-m", "workers.io"]
    name = command[command.index("--name") + 1]
    assert SERVICES["io-worker"]["healthcheck"]["test"][-1] == name in LONGEST_SECONDS
    assert arguments(name, 1)[1] == f"--hostname={name}@%h"
    assert f"--queues={','.join(IO_QUEUES)}" in arguments(name, 1)
    schedule = SERVICES["beat"]["command"][4]
    assert schedule.startswith("--schedule=")
    assert SERVICES["beat"]["healthcheck"]["test"][-1] == schedule


def test_the_sandbox_bot_follows_members_of_the_sandbox() -> None:
    config = load_config(sandboxed.CONFIG)
    assert config.accounts_to_follow == [member.handle for member in load("default").members]
    assert SERVICES["sandbox-model"]["command"][-1] == config.model.hf_repo_id


def test_what_compose_misses_it_names_with_the_remedy() -> None:
    asked = re.findall(r"\$\{\w+:?\?([^}]*)\}", COMPOSE_FILE)
    assert len(asked) >= 7
    assert all("make env" in remedy for remedy in asked)
