"""The base model and the checkpoints on it, told by their files: torch is only ever loaded in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

from app.doctor.findings import AtFault, Check, NotExamined
from app.doctor.setup import Setup, wrong_from
from app.doctor.storage import writable
from app.policy import registry
from app.policy.checkpoints import CheckpointError, ForeignCheckpointError, base_hash

REPOSITORY, ROOT = "model.hf_repo_id", "model.checkpoint_dir"
ASK_DEVICE = """
import sys
from app.config import ModelConfig
from app.policy.hardware import HardwareError, device_of
try:
    print(device_of(ModelConfig(device=sys.argv[1])))
except HardwareError as error:
    print(error)
    raise SystemExit(1)
"""


def check_packages(_: Setup) -> str:
    lacking = [name for name in ("torch", "transformers", "peft", "safetensors") if find_spec(name) is None]
    if lacking:
        raise NotExamined(
            f"because {', '.join(lacking)} is not installed here (the extra `gpu`): only a GPU service needs it"
        )
    return "what the GPU service needs is installed"


def check_model(setup: Setup) -> str:
    from app.policy.base_files import read_base_files  # of the extra `gpu`, as is the hub's client
    from app.policy.base_model import ModelError, bytes_to_fetch, present_directory

    config = setup.config
    modules = {*config.sft.lora.target_modules, *config.ppo.lora.target_modules}
    try:
        directory = present_directory(config.model)
        if directory is None:
            setup.to_fetch = bytes_to_fetch(config.model)
            raise NotExamined(
                f"because {config.model.hf_repo_id} is not here yet: the first start fetches "
                f"{setup.to_fetch / 1e6:,.0f} MB from the Hugging Face hub"
            )
        setup.model_files = read_base_files(directory, modules)
    except ModelError as error:
        raise AtFault(wrong_from(REPOSITORY, str(error))) from None
    setup.model_directory = directory
    return f"{config.model.hf_repo_id}, {setup.model_files.bytes / 1e6:,.0f} MB"


def check_device(setup: Setup) -> str:
    """Where the config leaves the choice there is nothing that could fail."""
    wanted = setup.config.model.device
    if wanted != "cuda":
        return wanted
    done = subprocess.run([sys.executable, "-c", ASK_DEVICE, wanted], capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stdout or done.stderr).strip().splitlines()[-1:] or ["nothing was said"]
        raise AtFault(wrong_from("model.device", said[0]))
    return done.stdout.strip()


def check_checkpoint_dir(setup: Setup) -> str:
    return writable(ROOT, setup.config.model.checkpoint_dir)


def check_checkpoints(setup: Setup) -> str:
    """As the author does before each batch: every checkpoint that may write, file by file, by its hashes."""
    from app.policy.pointers import PointerReader

    config = setup.config
    try:
        with setup.db.transaction() as session:
            current = registry.current(session, config.bot_id)
            if current is None:
                return "none yet: the base model writes"
            PointerReader(config, base_hash(setup.model_directory)).read(session)
    except ForeignCheckpointError as error:
        raise AtFault(wrong_from(REPOSITORY, str(error))) from None
    except (CheckpointError, LookupError, OSError) as error:
        raise AtFault(wrong_from(ROOT, str(error))) from None
    return f"{current.kind} {current.checkpoint_id} is current, and its files are those that were written"


CHECKS = (
    Check("packages", check_packages),
    Check("model", check_model, ("packages", "config")),
    Check("device", check_device, ("packages", "config")),
    Check("checkpoint_dir", check_checkpoint_dir, ("packages", "config")),
    Check("checkpoints", check_checkpoints, ("bot", "model", "checkpoint_dir", "shared_url")),
)
