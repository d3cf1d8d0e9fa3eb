"""A tiny model for plumbing, loaded once, and an author who writes with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from author_life import make
from factories import BOT, give_persona
from tiny_model import save_tiny_model

from app import clock
from app.config import LoopConfig, ModelConfig, PPOConfig, VibeBotConfig
from app.policy.author import Author
from app.policy.model import LanguageModel
from dbs.models import Community, Membership
from dbs.states import FollowState


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


@pytest.fixture
def config(config: VibeBotConfig, model_config: ModelConfig, tmp_path) -> VibeBotConfig:
    changes = {
        "model": model_config.model_copy(update={"checkpoint_dir": str(tmp_path / "checkpoints")}),
        "loop": LoopConfig(selection_share=0.5, exploration_share=0.0, quote_share=0.0, max_replies_per_turn=50),
        "ppo": PPOConfig(reference_share=0.25),
    }
    return config.model_copy(update=changes)


@pytest.fixture
def author(config, database, bot, model) -> Author:
    with database.transaction() as session:
        give_persona(session)
        for number in range(10):
            session.add(
                Community(
                    user_id=str(number), handle=f"member{number}", followers=100 * number, fetched_at=clock.now(),
                    account_summary="Writes about trams." if number % 2 else None,
                )
            )  # fmt: skip
            session.flush()
            session.add(
                Membership(bot_id=BOT, user_id=str(number), follow_state=FollowState.FOLLOWING, joined_at=clock.now())
            )
    return make(config, database, model)
