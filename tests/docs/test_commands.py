"""Every documented command that needs neither X nor a cluster, carried out beside a running bot as they tell you to.

The stack is the embedded one with a sandbox; what is left out, and why, stands in `not_executed.py`.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from archives import archive
from documented import ROOT, Command, in_blocks
from not_executed import reason_for
from sqlalchemy import select
from waiting import wait_for

from app import clock
from app.config import VibeBotConfig
from app.learning.rewarding import compute_rewards
from app.loading import load_config
from app.local.observer import Observer
from app.local.sandboxed import BOT_ID, config_writer, time_lapse_config
from app.local.stack import SandboxOptions, Stack, running_stack
from dbs.models import Post, Reward
from dbs.session import Database
from dbs.states import PostState

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# What does not end by itself, and where it answers once it runs.
SERVERS = {
    "explorer up --sandbox": None,
    "explorer sandbox --port 8080": "http://127.0.0.1:8080/_sandbox/health",
    "explorer sandbox --community hearth --state data/hearth --port 8081": "http://127.0.0.1:8081/_sandbox/health",
    "explorer monitor": "http://127.0.0.1:9464/metrics",
    "CONSOLE_PASSWORD=… explorer console": "http://127.0.0.1:8765/health",
    "celery -A app flower": "http://127.0.0.1:5555/",
}
COMMANDS = {command.text: command for command in in_blocks() if reason_for(command.text) is None}
# In the order of the pages, but that nobody is forgotten who is still named.
ENDING = sorted((text for text in COMMANDS if text not in SERVERS), key=lambda text: text.startswith("explorer forget"))
SECONDS = 300.0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with nothing of its own: the code of this one, and places that are its own to write to."""
    return checkout(tmp_path_factory.mktemp("documented"))


def checkout(directory: Path) -> Path:
    for entry in ROOT.iterdir():
        if entry.name not in {"data", "checkpoints", ".env", ".venv", ".git", "explorer.yaml"}:
            (directory / entry.name).symlink_to(entry)
    (directory / ".venv").symlink_to(sys.prefix)
    (directory / "data").mkdir()
    (directory / "checkpoints").mkdir()
    (directory / "data/models").symlink_to(ROOT / "data/models")
    return directory


@pytest.fixture(scope="module")
def stack(home: Path, packaged_model: Path) -> Iterator[Stack]:
    config = time_lapse_config(home, packaged_model)
    config["sft"] = {"approximate_tokens": 20_000, "posts_per_account": 20, "max_cost": 1000}
    config["loop"]["ppo_interval"] = 100_000  # no run, which would take the processor from the commands
    before = Path.cwd()
    os.chdir(home)  # where another terminal would look for the running stack
    try:
        with running_stack(
            home / "data/local",
            home / "explorer.yaml",
            sandbox=SandboxOptions(speed=480),
            before_bot=config_writer(config, home / "explorer.yaml"),
        ) as running:
            yield running
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def named(stack: Stack, home: Path) -> Iterator[dict[str, str]]:
    """What the placeholders of the documents stand for here."""
    config = load_config(home / "explorer.yaml")
    database = Database(stack.env["DATABASE_URL"])
    wait_for(stack, "rewarded post", SECONDS, lambda: bool(rewarded(database, config)))
    handles = Observer(stack.env["X_BASE_URL"]).handles(3)
    yield {
        "POST": rewarded(database, config),
        "USER_OR_POST": f"@{handles[0]}",
        "@ada": f"@{handles[1]}",
        "HANDLE": handles[2],
        "DIR": str(home / "exported"),
        "ARCHIVE.zip": str(archive(home / "archive.zip").path),
        "…": "a-password-for-once",
    }
    database.close()


def rewarded(database: Database, config: VibeBotConfig) -> str:
    """A post that has a reward, or nothing while there is none."""
    with database.transaction() as session:
        compute_rewards(session, config, clock.now())
        found = session.scalars(
            select(Post.post_id)
            .join(Reward, Reward.draft_id == Post.draft_id)
            .where(Post.bot_id == BOT_ID, Post.state == PostState.POSTED)
        ).first()
    return str(found or "")


def environment() -> dict[str, str]:
    """That of another terminal: nothing of the stack's, and the programs of the environment and of PostgreSQL."""
    kept = {name: value for name, value in os.environ.items() if name in {"HOME", "LANG", "TERM", "PIP_FIND_LINKS"}}
    programs = [str(Path(sys.executable).parent), os.environ["PATH"]]
    return kept | {"PATH": os.pathsep.join(programs), "PYTHONPATH": str(ROOT)}


def filled(command: Command, named: dict[str, str]) -> str:
    """The command with something real for each placeholder."""
    text = command.text
    for placeholder in sorted(named, key=len, reverse=True):
        text = text.replace(placeholder, named[placeholder])
    return text


def begin(text: str, place: Path, stdin: int, log: Path) -> subprocess.Popen[bytes]:
    """Start a command as a shell in this folder would."""
    with log.open("wb") as said:
        return subprocess.Popen(
            ["bash", "-ec", text],
            cwd=place,
            env=environment(),
            stdin=stdin,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


@pytest.mark.parametrize("text", ENDING)
def test_it_does_what_it_is_documented_for(text: str, stack: Stack, named: dict[str, str], home: Path) -> None:
    terminal, ours = os.openpty()
    os.write(terminal, b"y\n" * 40)  # whatever it asks
    log = home / "said.log"
    process = begin(filled(COMMANDS[text], named), home, ours, log)
    os.close(ours)
    deadline = time.monotonic() + SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        stack.tend()
        time.sleep(0.2)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    os.close(terminal)
    assert process.wait() == 0, f"{COMMANDS[text].where}\n{log.read_text()[-4000:]}"


@pytest.mark.parametrize("text", SERVERS)
def test_it_serves_until_it_is_told_to_end(
    text: str, stack: Stack, named: dict[str, str], home: Path, tmp_path: Path
) -> None:
    address = SERVERS[text]
    if address is not None and is_taken(int(address.split(":")[2].split("/")[0])):
        pytest.skip(f"somebody listens at {address} on this machine; end that, and run this again")
    place = home if address is not None else checkout(tmp_path)
    log = place / "served.log"
    process = begin(filled(COMMANDS[text], named), place, subprocess.DEVNULL, log)
    try:
        wait_for(stack, text, 120, lambda: process.poll() is not None or answers(address, place))
        assert process.poll() is None, f"{COMMANDS[text].where}\n{log.read_text()[-4000:]}"
    finally:
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
        code = process.wait(timeout=90)
    assert code in {0, 130, -signal.SIGINT}, log.read_text()[-4000:]


def is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def answers(address: str | None, place: Path) -> bool:
    """Whether a server does; without an address, whether a stack runs whose timeline was read."""
    if address is None:
        done = subprocess.run(
            ["explorer", "status"], cwd=place, env=environment(), capture_output=True, text=True, check=False
        )
        return done.returncode == 0
    try:
        return requests.get(address, timeout=5).status_code < 500
    except requests.ConnectionError:
        return False


def test_what_serves_is_documented() -> None:
    assert not SERVERS.keys() - COMMANDS.keys()
