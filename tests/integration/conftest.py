"""A healthy set-up for `explorer doctor`, with a sandbox for X, and a scripted X for what a sandbox does not say."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from healthy_setup import Setting, healthy
from sandbox_server import Server

from app.doctor.examination import examine
from app.doctor.findings import Finding
from app.local.observer import Observer


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_model import save_tiny_model  # torch, which most tests here do without

    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def x_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("sandbox"), speed=1.0).start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def handles(x_sandbox: Server) -> list[str]:
    return Observer(x_sandbox.base_url).handles(2)


@pytest.fixture
def setting(
    tmp_path: Path, model_files: Path, database_url: str, redis_url: str, x_sandbox: Server, handles: list[str]
) -> Setting:
    model = tmp_path / "tiny"
    shutil.copytree(model_files, model)
    return healthy(tmp_path, model, database_url, redis_url, x_sandbox.base_url, handles)


@pytest.fixture
def examined(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Finding]]:
    """Writes the config, unless it is there, sets the environment, and examines both."""

    def run() -> list[Finding]:
        monkeypatch.chdir(setting.directory)
        for name in ("DATABASE_URL", "REDIS_URL", *(name for name in os.environ if name.startswith("X_"))):
            monkeypatch.delenv(name, raising=False)
        for name, value in setting.env.items():
            monkeypatch.setenv(name, value)
        return list(examine(setting.config_file))

    return run
