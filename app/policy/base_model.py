"""Where the base model is: a directory, or a repository on the Hugging Face hub. Nothing here imports torch."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

from app.config import ModelConfig

WEIGHTS_AND_TOKENIZER = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]
NOT_FETCHED = (HfHubHTTPError, RepositoryNotFoundError, LocalEntryNotFoundError, OSError)


class ModelError(RuntimeError):
    """The base model cannot be used. The message names the setting and what to do."""


def base_directory(config: ModelConfig) -> Path:
    """The directory of the base model; fetched from the hub, safetensors only, where the config names a repository.

    Raises:
        ModelError: there is no such directory and no such repository, or the hub cannot be reached.
    """
    named = _named_directory(config)
    if named is not None:
        return named
    try:
        return Path(snapshot_download(config.hf_repo_id, allow_patterns=WEIGHTS_AND_TOKENIZER))
    except NOT_FETCHED as error:
        raise _not_fetched(config, error) from error


def present_directory(config: ModelConfig) -> Path | None:
    """As `base_directory`, but nothing is fetched; None where it would have to be.

    Raises:
        ModelError: the config names neither a directory with a model nor a repository.
    """
    named = _named_directory(config)
    if named is not None:
        return named
    try:
        found = snapshot_download(config.hf_repo_id, allow_patterns=WEIGHTS_AND_TOKENIZER, local_files_only=True)
    except LocalEntryNotFoundError:
        return None
    return Path(found)


def bytes_to_fetch(config: ModelConfig) -> int:
    """How much of the named repository is yet to be fetched, as the hub says.

    Raises:
        ModelError: there is no such repository, or the hub cannot be reached.
    """
    try:
        files = snapshot_download(config.hf_repo_id, allow_patterns=WEIGHTS_AND_TOKENIZER, dry_run=True)
    except NOT_FETCHED as error:
        raise _not_fetched(config, error) from error
    return sum(file.file_size or 0 for file in files if file.will_download)


def _named_directory(config: ModelConfig) -> Path | None:
    """The directory that the config names, None if it names a repository."""
    named = Path(config.hf_repo_id)
    if (named / "config.json").is_file():
        return named
    if named.exists() or config.hf_repo_id.count("/") != 1 or config.hf_repo_id.startswith((".", "/")):
        raise ModelError(
            f"model.hf_repo_id: got {config.hf_repo_id!r}, a directory without a config.json in it; name a directory "
            "with a model, or a repository as owner/name"
        )
    return None


def _not_fetched(config: ModelConfig, error: Exception) -> ModelError:
    why = type(error.__cause__ or error).__name__
    return ModelError(
        f"model.hf_repo_id: {config.hf_repo_id!r} could not be fetched from the Hugging Face hub "
        f"({why}); check the name and the connection, or name a directory with the model in it"
    )
