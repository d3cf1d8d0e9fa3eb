"""A scripted X and clients for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from oauth2_world import World
from scripted_x import CANARIES, ScriptedX

from app import clock
from app.config import Secrets
from app.sandbox.serving import served_here
from app.sandbox.settings import Settings
from app.x_interactor import XInteractor


@pytest.fixture
def oauth2_world(tmp_path: Path) -> Iterator[World]:
    with (
        clock.virtual(datetime(2026, 3, 4, 15, 0, tzinfo=UTC)) as time,
        served_here(Settings(state=tmp_path / "sandbox")) as url,
    ):
        yield World(url, time)


@pytest.fixture
def connect(x: ScriptedX) -> Iterator[Callable[..., XInteractor]]:
    """Makes clients of the scripted X; live unless told otherwise."""
    made: list[XInteractor] = []

    def make(**options: object) -> XInteractor:
        settings = {"live": True, "timeout": 2.0, "secrets": Secrets(**CANARIES, x_base_url=x.url), **options}
        made.append(XInteractor("1000001", **settings))
        return made[-1]

    yield make
    for client in made:
        client.close()
