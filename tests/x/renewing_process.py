"""A process that asks X for something with the stored tokens; it may die around the renewal.

python renewing_process.py DATABASE_URL X_URL GATE [die_before | die_after]

It says that it is ready by a file beside GATE, asks once GATE is there, and prints what came of it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from oauth2_world import BUDGET, USER, oauth2_secrets

from app.x import errors, oauth2
from app.x.tokens import TokenStore
from app.x_interactor import XInteractor
from dbs.session import Database


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(database_url: str, url: str, gate: Path, death: str = "") -> None:
    if death == "die_before":
        oauth2.refresh = die  # type: ignore[assignment] # the lease is taken, and nothing has been sent
    elif death == "die_after":
        TokenStore.replace = die  # type: ignore[method-assign, assignment] # X has answered, and nothing is stored
    x = XInteractor(USER, secrets=oauth2_secrets(url), db=Database(database_url), budget=BUDGET)
    gate.with_name(f"{gate.name}.{os.getpid()}").touch()
    while not gate.exists():
        time.sleep(0.005)
    try:
        print(x.me().user_id)
    except errors.XError as error:
        print(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), *sys.argv[4:])
