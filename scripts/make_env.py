"""Write the .env that docker-compose.yml reads: random passwords, and either a sandbox or the keys of an app at X.

    python3 scripts/make_env.py            for the sandbox; asks nothing
    python3 scripts/make_env.py --for x    asks for the four keys

It needs nothing installed, and never overwrites: the passwords in an .env are those of the databases made with it.
"""

from __future__ import annotations

import argparse
import getpass
import os
import secrets
import sys
from datetime import datetime, timezone
from pathlib import Path

KEYS = ("X_API_KEY", "X_API_SECRET", "X_ACCESS_TOKEN", "X_ACCESS_TOKEN_SECRET")
# A day in two minutes and a half: posts mature and are learnt from while one watches.
SANDBOX_SPEED = 600
SANDBOX_BOT_ID = "1000001"


def passwords() -> dict[str, str]:
    """What the servers and the pages ask for. Safe in a URL, where two of them stand."""
    names = ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "FLOWER_PASSWORD", "CONSOLE_PASSWORD")
    return {name: secrets.token_urlsafe(24) for name in names}


def for_sandbox() -> dict[str, str]:
    """Random keys, and a world that agrees with the wall clock now and runs faster from here on."""
    keys = {name: secrets.token_urlsafe(16) for name in KEYS}
    # As at X, an access token begins with the id of its account.
    keys["X_ACCESS_TOKEN"] = f"{SANDBOX_BOT_ID}-{keys['X_ACCESS_TOKEN']}"
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")  # noqa: UP017 - also for a Python before 3.11
    return {
        "COMPOSE_PROFILES": "sandbox",
        "EXPLORER_CONFIG_FILE": "./app/local/sandbox.yaml",
        "EXPLORER_CLOCK": f"{now}@{SANDBOX_SPEED}",
        "X_BASE_URL": "http://sandbox:8080",
        **keys,
    }


def for_x() -> dict[str, str]:
    """The four keys, asked for without showing them.

    Raises:
        SystemExit: one was left empty, or cannot be what it is said to be.
    """
    print("The four keys of an app with 'Read and write' permission, from the developer portal of X.")
    keys = {}
    for name in KEYS:
        keys[name] = getpass.getpass(f"{name}: ").strip()
        if not keys[name] or not keys[name].isascii() or any(sign in keys[name] for sign in " '\"$#\\"):
            raise SystemExit(f"{name}: that is no key of X; nothing was written")
    return {"EXPLORER_CONFIG_FILE": "./explorer.yaml", **keys}


def write(file: Path, settings: dict[str, str]) -> None:
    """Make the file, readable by its owner only.

    Raises:
        FileExistsError: it is there already.
    """
    lines = [
        "# Made by `make env`; .env.example explains each line. Keep it: the volumes were made with its passwords."
    ]
    lines += [f"{name}={value}" for name, value in settings.items()]
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        handle.write("\n".join(lines) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """Returns 1 if there is an .env already, which is left as it is."""
    parser = argparse.ArgumentParser(description="Write the .env that docker-compose.yml reads.")
    parser.add_argument("--for", dest="target", choices=("sandbox", "x"), default="sandbox", help="what it posts to")
    parser.add_argument("--out", type=Path, default=Path(".env"), help="the file to write")
    options = parser.parse_args(arguments)
    refusal = (
        f"{options.out} is there already and was left as it is. Edit it; or, for new passwords and new, empty "
        "databases, run `docker compose down --volumes` and move it away."
    )
    if options.out.exists():  # before anybody is asked for keys
        print(refusal, file=sys.stderr)
        return 1
    try:
        write(options.out, {**passwords(), **(for_x() if options.target == "x" else for_sandbox())})
    except FileExistsError:
        print(refusal, file=sys.stderr)
        return 1
    print(f"{options.out} is written. Next: docker compose up --build -d --scale io-worker=3")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
