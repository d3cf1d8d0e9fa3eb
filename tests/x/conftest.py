"""A scripted X and clients for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from scripted_x import CANARIES, ScriptedX

from app.config import Secrets
from app.x_interactor import XInteractor


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
