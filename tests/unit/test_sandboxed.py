"""The bot of a sandbox: at the pace of a time lapse, and at the pace of X."""

from pathlib import Path

from app.config import LoopConfig, ModelConfig, VibeBotConfig
from app.loading import parse_config
from app.local.backtest import MOST_ANSWERED, Plan, backtest_config
from app.local.sandboxed import sandbox_config, time_lapse_config


def test_a_time_lapse_shows_little_of_a_conversation_and_real_time_all_of_it(tmp_path: Path) -> None:
    lapse = parsed(time_lapse_config(tmp_path, tmp_path / "model"))
    real = parsed(sandbox_config(tmp_path, tmp_path / "model"))
    backtest = backtest_config(tmp_path, Plan(model=tmp_path / "model", posts=5), ["someone"])

    assert real.model.max_prompt_tokens == ModelConfig().max_prompt_tokens
    assert lapse.model.max_prompt_tokens == backtest.model.max_prompt_tokens < real.model.max_prompt_tokens
    assert real.loop == LoopConfig() != lapse.loop
    for config in (lapse, real, backtest):
        assert config.model.hf_repo_id == str(tmp_path / "model")
        assert config.model.checkpoint_dir == str(tmp_path / "checkpoints")
    assert backtest.model.batch_size == MOST_ANSWERED
    assert backtest.ppo.learning_rate == lapse.ppo.learning_rate


def parsed(settings: dict[str, object]) -> VibeBotConfig:
    return parse_config({**settings, "accounts_to_follow": ["someone"]})
