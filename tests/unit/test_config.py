"""The config: defaults of the seed, and errors that say what to do."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config import IntervalConfig, LoopConfig, ModelConfig, Secrets, SFTConfig, VibeBotConfig
from app.context import BotContext
from app.loading import ConfigError, load_config, load_secrets, parse_config

EXAMPLE = Path(__file__).parents[2] / "explorer.example.yaml"


def minimal(**changes: Any) -> dict[str, Any]:
    return {
        "user_id": "42",
        "accounts_to_follow": ["NASA"],
        "persona": {"name": "E", "description": "d", "tone": "t", "interests": ["i"]},
        **changes,
    }


def test_the_example_is_valid_and_dry() -> None:
    config = load_config(EXAMPLE)
    assert config.live is False
    assert config.loop.tl_retrieval_length == 50


def test_defaults_are_the_seeds() -> None:
    assert SFTConfig().approximate_tokens == 8_000_000_000
    assert ModelConfig().hf_repo_id == "HuggingFaceTB/SmolLM2-360M-Instruct"
    assert ModelConfig().checkpoint_dir == "checkpoints"
    assert IntervalConfig is LoopConfig
    assert VibeBotConfig.model_validate(minimal()).live is False


@pytest.mark.parametrize(
    ("changes", "field", "remedy"),
    [
        ({"user_id": "explorer_bot"}, "user_id: got 'explorer_bot'", "pattern"),
        ({"loop": {"ppo_intervall": 3}}, "loop.ppo_intervall", "did you mean ppo_interval?"),
        ({"loop": {"ppo_interval": 0}}, "loop.ppo_interval: got 0", "greater than 0"),
        ({"accounts_to_follow": ["a", "@A"]}, "accounts_to_follow", "remove one"),
        ({"accounts_to_follow": ["not a handle"]}, "accounts_to_follow.0: got 'not a handle'", "pattern"),
        ({"persona": {"name": "E"}}, "persona.tone", "missing; add it"),
        ({"model": {"temperature": 0}}, "model.temperature: got 0", "greater than 0"),
        ({"safety": {"quiet_hours": "9-17"}}, "safety.quiet_hours: got '9-17'", "pattern"),
        ({"safety": {"quiet_hours": "09:00-09:00"}}, "safety.quiet_hours: got '09:00-09:00'", "two different times"),
        ({"safety": {"time_zone": "Berlin"}}, "safety.time_zone: got 'Berlin'", "Europe/Berlin"),
        ({"wrong": 1}, "wrong", "unknown setting"),
    ],
)
def test_a_wrong_setting_is_named_with_its_remedy(changes: dict[str, Any], field: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_config(minimal(**changes))
    assert field in str(raised.value)
    assert remedy in str(raised.value)


def test_every_wrong_setting_is_reported_at_once() -> None:
    with pytest.raises(ConfigError, match=r"3 wrong setting"):
        parse_config(minimal(user_id="x", live="perhaps", bot_id="With Spaces"))


def test_a_missing_file_says_what_to_copy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"copy explorer\.example\.yaml"):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize("content", ["- a list", "a: [", "\x00", ""])
def test_a_file_that_is_not_settings_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "explorer.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError):
        load_config(file)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*VibeBotConfig.model_fields, "else"]), json_values))
def test_any_input_is_a_config_or_a_config_error(raw: dict[str, Any]) -> None:
    with contextlib.suppress(ConfigError):
        assert isinstance(parse_config(raw), VibeBotConfig)


def test_secrets_never_show(monkeypatch: pytest.MonkeyPatch) -> None:
    canary = "canary-5f1c"
    for name in ("X_API_KEY", "X_API_SECRET", "X_ACCESS_TOKEN", "X_ACCESS_TOKEN_SECRET", "X_CLIENT_SECRET"):
        monkeypatch.setenv(name, canary)
    monkeypatch.setenv("DATABASE_URL", f"postgresql://u:{canary}@h/d")
    secrets = load_secrets()
    assert canary not in repr(secrets) + str(secrets) + secrets.model_dump_json()
    assert secrets.x_api_key is not None
    assert secrets.x_api_key.get_secret_value() == canary


def test_a_wrong_environment_is_named_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X_BASE_URL", "ftp://user:canary@host")
    with pytest.raises(ConfigError, match="X_BASE_URL") as raised:
        load_secrets()
    assert "canary" not in str(raised.value)


def test_a_wrong_clock_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPLORER_CLOCK", "yesterday@2")
    with pytest.raises(ConfigError, match="EXPLORER_CLOCK='yesterday@2'"):
        load_secrets()


def test_secrets_are_frozen() -> None:
    assert Secrets.model_config["frozen"] is True


def test_what_only_a_proof_may_do_is_refused_at_x() -> None:
    config = parse_config(minimal(ppo={"gate": "open"}))
    with pytest.raises(ConfigError, match=r"ppo\.gate.*api\.twitter\.com.*remove the setting"):
        BotContext(config, secrets=Secrets(x_base_url="https://api.twitter.com"))
    for sandbox in ("http://127.0.0.1:8123", "http://localhost:8123", "http://[::1]:8123"):
        BotContext(config, secrets=Secrets(x_base_url=sandbox))
    BotContext(parse_config(minimal()), secrets=Secrets(x_base_url="https://api.twitter.com"))
