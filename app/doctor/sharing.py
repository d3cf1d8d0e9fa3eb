"""The store at which several machines share files: that this one may do there what it will have to."""

from __future__ import annotations

import tempfile
from pathlib import Path

from app.doctor.findings import AtFault, Check
from app.doctor.setup import Setup
from app.shared_files import SharedFilesError, shared_files


def check_shared_url(setup: Setup) -> str:
    """Write, list, read and delete."""
    try:
        store = shared_files(setup.config)
        if store is None:
            return "not set: what machines share are the directories themselves"
        with tempfile.TemporaryDirectory() as scratch:
            store.try_out(Path(scratch))
    except SharedFilesError as error:
        raise AtFault(*error.wrong) from None
    return f"{store.url} can be written to, listed, read and deleted from"


CHECKS = (Check("shared_url", check_shared_url, ("config",)),)
