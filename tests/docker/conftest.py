"""The stack of docker-compose.yml on a real engine: built, brought up with the sandbox, taken down with its volumes."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest
from compose_stack import ROOT, Compose, docker_run

from app.local.servers import free_port


@pytest.fixture(scope="session")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    if shutil.which("docker") is None or docker_run(["docker", "info"]).returncode != 0:
        pytest.skip("no Docker engine answers `docker info`: install Docker with Compose v2, or start its service")
    if docker_run(["docker", "compose", "version"]).returncode != 0:
        pytest.skip("this Docker has no Compose v2: install the plugin docker-compose-plugin")
    env_file, port = tmp_path_factory.mktemp("compose") / ".env", free_port()
    subprocess.run(["make", "--silent", "env", f"OUT={env_file}"], check=True, cwd=ROOT)
    with env_file.open("a") as file:
        file.write(f"FLOWER_PORT={port}\nMETRICS_PORT={free_port()}\nCONSOLE_PORT={free_port()}\n")
    stack = Compose(env_file, port)
    try:
        stack.up("--build")
        yield stack
    finally:
        stack("down", "--volumes", "--remove-orphans")
