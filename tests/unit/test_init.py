"""`explorer init`: what is asked becomes a config and a .env that can be used, and nothing is overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from dotenv import dotenv_values
from typer.testing import CliRunner

from app import firststeps
from app.cli import app as cli
from app.firststeps import EXAMPLE, Answers, config_text
from app.loading import ConfigError, load_config

KEYS = ("an-api-key", "an-api-secret", "1000001-token", "a-token-secret")
PERSONA = ("Reporter", "Counts birds: all of them.", "dry", "herons, tide pools")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in firststeps.KEYS:
        monkeypatch.setenv(name, "")  # reading a config adopts the .env here; other tests must not find these keys


def init(*answers: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["init", "--no-examine"], input="\n".join(answers) + "\n")
    return done.exit_code, done.output


def test_the_answers_become_a_dry_config_and_an_env_that_nobody_else_may_read() -> None:
    code, output = init(*KEYS, "@NASA, XDevelopers", *PERSONA)
    assert code == 0, output
    assert "an-api-secret" not in output
    assert "a-token-secret" not in output
    config = load_config("explorer.yaml")
    assert (config.user_id, config.live, config.accounts_to_follow) == ("1000001", False, ["NASA", "XDevelopers"])
    assert (config.persona.name, config.persona.tone) == ("Reporter", "dry")
    assert config.persona.description == "Counts birds: all of them."
    assert config.persona.interests == ["herons", "tide pools"]
    values = dotenv_values(".env")
    assert tuple(values[name] for name in firststeps.KEYS) == KEYS
    assert Path(".env").stat().st_mode & 0o777 == 0o600


def test_what_was_not_asked_stands_as_in_the_example_with_its_comments() -> None:
    init(*KEYS, "NASA", *PERSONA)
    mine, example = (yaml.safe_load(file.read_text()) for file in (Path("explorer.yaml"), EXAMPLE))
    asked = {"user_id", "accounts_to_follow", "persona"}
    assert {key: mine[key] for key in mine.keys() - asked} == {key: example[key] for key in example.keys() - asked}
    assert "# of the judged posts, the best fifth" in Path("explorer.yaml").read_text()


def test_keys_may_come_later() -> None:
    code, output = init("", "42", "NASA", *PERSONA)
    assert code == 0, output
    assert load_config("explorer.yaml").user_id == "42"
    assert dotenv_values(".env")["X_API_KEY"] == ""


@pytest.mark.parametrize("there", ["explorer.yaml", ".env"])
def test_nothing_is_overwritten_and_nobody_is_asked_in_vain(there: str) -> None:
    Path(there).write_text("mine")
    code, output = init(*KEYS, "NASA", *PERSONA)
    assert code == 1
    assert f"{there} is there already" in output
    assert "handles" not in output
    assert [file.name for file in Path().iterdir()] == [there]
    assert Path(there).read_text() == "mine"


def test_an_answer_that_cannot_be_used_is_named_and_nothing_is_written() -> None:
    code, output = init(*KEYS, "not a handle", *PERSONA)
    assert code == 1
    assert "accounts_to_follow" in output
    assert list(Path().iterdir()) == []


def test_a_key_that_cannot_be_one_is_named_and_not_shown() -> None:
    code, output = init("an-api-key", "two words", "1000001-token", "a-token-secret", "NASA", *PERSONA)
    assert code == 1
    assert "X_API_SECRET: that is no key of X" in output
    assert "two words" not in output
    assert list(Path().iterdir()) == []


def test_no_answer_breaks_out_of_its_setting() -> None:
    nasty = 'a"\nlive: true\n# '
    answers = Answers("1", ["a"], "E", "d: {x}", "- t", [nasty.strip()], {})
    with pytest.raises(ConfigError):
        config_text(Answers("1\nlive: true", ["a"], "E", "d", "t", ["i"], {}))
    text, config = config_text(answers)
    assert config.live is False
    assert config.persona.interests == [nasty.strip()]
    assert yaml.safe_load(text)["live"] is False
