"""Disk and memory: that the bot may write where the config says, and that there is room for what it will write."""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from app.config import VibeBotConfig
from app.data.estimate import CHARACTERS_PER_POST, CHARACTERS_PER_TOKEN
from app.data.x_source import price_of_posts
from app.doctor.findings import AtFault, Check
from app.doctor.setup import Setup
from app.learning.limits import GB, machine_memory, memory_limit
from app.loading import WrongSetting

DATA, CHECKPOINTS = "data_dir", "model.checkpoint_dir"
RESERVE = GB // 2  # for logs, and for what else lives on the same disk
BYTES_PER_POST = 4 * CHARACTERS_PER_POST  # a record has names, ids and counts beside the text
# The jump start keeps two savings, each an adapter and its two moments, and then writes the adapter; PPO one more.
ADAPTERS_WRITTEN = 2 * 3 + 1 + 1
# What Python, torch and the batches take beside the weights, in generation and in training each.
LIBRARIES = GB // 2


def check_data_dir(setup: Setup) -> str:
    return writable(DATA, setup.config.data_dir)


def writable(setting: str, named: str) -> str:
    """Write where a directory is or would be made; leaves nothing there."""
    place = _existing(Path(named))
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"\0")
            file.flush()
    except OSError as error:
        problem = f"got {named}, and {place} cannot be written to ({error.strerror})"
        remedy = "name another place, or let the user that runs the services write there"
        raise AtFault(WrongSetting(setting, problem, remedy)) from None
    return named if place == Path(named) else f"{named}, which the first start makes"


def _existing(path: Path) -> Path:
    """The path itself if it is there, else the nearest above it that is."""
    whole = path.absolute()
    return path if path.exists() else next(place for place in whole.parents if place.exists())


@dataclass(frozen=True)
class Need:
    setting: str
    place: Path
    bytes: int


def check_disk(setup: Setup) -> str:
    by_disk: dict[int, list[Need]] = defaultdict(list)
    for need in _needs(setup):
        by_disk[need.place.stat().st_dev].append(need)
    wrong, free_of = [], []
    for needs in by_disk.values():
        place, wanted = needs[0].place, sum(need.bytes for need in needs) + RESERVE
        free = shutil.disk_usage(place).free
        free_of.append(f"{free / GB:,.1f} GB free at {place}")
        if free < wanted:
            names = ", ".join(need.setting for need in needs)
            problem = f"{free / GB:,.1f} GB free at {place}, and a run needs {wanted / GB:,.1f} GB"
            wrong.append(WrongSetting(names, problem, "free some of the disk, or name a place on another"))
    if wrong:
        raise AtFault(*wrong)
    return ", ".join(free_of)


def _needs(setup: Setup) -> list[Need]:
    config = setup.config
    needs = [Need(DATA, _existing(Path(config.data_dir)), _data_set_bytes(config))]
    if hasattr(setup, "model_files"):
        largest = max(
            setup.model_files.adapter_bytes(lora.rank, lora.target_modules)
            for lora in (config.sft.lora, config.ppo.lora)
        )
        root = _existing(Path(config.model.checkpoint_dir))
        needs.append(Need(CHECKPOINTS, root, ADAPTERS_WRITTEN * largest))
    if setup.to_fetch:
        from huggingface_hub import constants  # of the extra `gpu`; it was there to say how much

        needs.append(Need("HF_HOME", _existing(Path(constants.HF_HUB_CACHE)), setup.to_fetch))
    return needs


def _data_set_bytes(config: VibeBotConfig) -> int:
    """The most that the jump start's files can come to."""
    sft = config.sft
    if sft.source != "x":
        path = Path(sft.path or "")
        files = [path] if path.is_file() else path.rglob("*")
        return sum(file.stat().st_size for file in files if file.is_file())
    posts = min(
        len(config.accounts_to_follow) * sft.posts_per_account,
        sft.approximate_tokens * CHARACTERS_PER_TOKEN // CHARACTERS_PER_POST,
    )
    if each := float(price_of_posts(config, 1)):
        posts = min(posts, int(sft.max_cost / each))
    return posts * BYTES_PER_POST


def check_memory(setup: Setup) -> str:
    """Generation and training hold the weights once each."""
    config, there = setup.config, machine_memory()
    each = setup.model_files.bytes + LIBRARIES
    if there < 2 * each:
        problem = f"{there / GB:.1f} GB of memory, and writing and training with this model take {2 * each / GB:.1f} GB"
        raise AtFault(
            WrongSetting("model.hf_repo_id", problem, "name a smaller model, or give the machine or container more")
        )
    if memory_limit(config.ppo) < each:
        problem = f"got {config.ppo.max_memory_gb}, and training with this model takes {each / GB:.1f} GB"
        raise AtFault(WrongSetting("ppo.max_memory_gb", problem, "raise it, or leave it out"))
    return f"{there / GB:.1f} GB"


CHECKS = (
    Check("data_dir", check_data_dir, ("config",)),
    Check("disk", check_disk, ("data_dir",)),
    Check("memory", check_memory, ("model",)),
)
