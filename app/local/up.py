"""`explorer up`: the whole bot on this machine until Ctrl-C."""

from __future__ import annotations

import os
import time
from pathlib import Path

from rich.console import Console
from rich.live import Live

from app import logs
from app.context import BotContext
from app.loading import load_config
from app.local.sandboxed import config_writer, fetch_model, sandbox_config
from app.local.stack import SandboxOptions, running_stack
from app.status import loops_table, status_of

DIRECTORY = Path("data/local")


def run(config_file: Path, *, io_workers: int, sandbox: bool, community: str, speed: float) -> None:
    """Start everything, show how the loops stand, and end everything on Ctrl-C or SIGTERM.

    With a sandbox and no config file, one is made for it.

    Raises:
        ConfigError: the config cannot be used; nothing was started.
        AlreadyRunning: another stack runs in the same place.
    """
    logs.configure("WARNING")
    console = Console()
    before_bot = None
    if sandbox and not config_file.exists():
        model = fetch_model(console)
        config_file = DIRECTORY / "explorer.yaml"
        before_bot = config_writer(sandbox_config(DIRECTORY, model), config_file)
        options = SandboxOptions(community=community, speed=speed)
    else:
        options = SandboxOptions(community=community, speed=speed, bot_id=load_config(config_file).user_id)
    try:
        with running_stack(
            DIRECTORY,
            config_file,
            io_workers=io_workers,
            sandbox=options if sandbox else None,
            before_bot=before_bot,
        ) as stack:
            os.environ.update(stack.env)
            context = BotContext(load_config(config_file))
            context.enrol()
            console.print(f"Running with {config_file}. Logs are in {DIRECTORY / 'logs'}. Ctrl-C ends it.")
            with Live(console=console, auto_refresh=False, transient=True) as live:
                while True:
                    stack.tend()
                    live.update(loops_table(status_of(context)), refresh=console.is_terminal)
                    time.sleep(1.0)
    except KeyboardInterrupt:
        console.print("Ended.")
