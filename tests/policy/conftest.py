"""A tiny model for plumbing, loaded once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_model import save_tiny_model

from app.config import ModelConfig
from app.policy.model import LanguageModel


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def model_config(tiny_directory: Path) -> ModelConfig:
    return ModelConfig(
        hf_repo_id=str(tiny_directory), device="cpu", dtype="float32", batch_size=4, max_new_tokens=12,
        max_prompt_tokens=2000,
    )  # fmt: skip


@pytest.fixture(scope="session")
def resident(model_config: ModelConfig) -> LanguageModel:
    return LanguageModel(model_config)


@pytest.fixture
def model(resident: LanguageModel) -> LanguageModel:
    """The resident tiny model with no adapter active."""
    resident.use([])
    return resident
