"""`explorer doctor` on a healthy set-up, and on each of many that are broken in one place."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
from healthy_setup import BOT_ID, SKIPPED_WHEN_WELL, Setting, one_fault
from pydantic import SecretStr
from s3_server import S3Server

from app import loading
from app.config import Secrets
from app.doctor.examination import examine
from app.doctor.findings import Finding
from app.local.servers import free_port
from dbs import migrations


def test_nothing_is_at_fault_where_all_is_well(setting: Setting, examined: Callable[[], list[Finding]]) -> None:
    setting.write()
    found = examined()
    assert {finding.check for finding in found if finding.state != "ok"} == SKIPPED_WHEN_WELL
    assert not any(finding.state == "fault" for finding in found)


class Elsewhere(Secrets):
    """The defaults at ports where no machine has a server, as this one may have some at the usual ones."""

    database_url: SecretStr = SecretStr("postgresql+psycopg2://explorer:explorer@127.0.0.1:1/explorer")
    redis_url: SecretStr = SecretStr("redis://127.0.0.1:1/0")


def test_a_machine_on_which_nothing_has_run_has_no_fault(
    setting: Setting, examined: Callable[[], list[Finding]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As before the first `explorer up`, which brings its own servers."""
    monkeypatch.setattr(loading, "Secrets", Elsewhere)
    del setting.env["DATABASE_URL"], setting.env["REDIS_URL"]
    setting.write()
    found = {finding.check: finding for finding in examined()}
    assert not [finding for finding in found.values() if finding.state == "fault"]
    assert "`explorer up` brings its own" in found["database"].message
    assert "`explorer up` brings its own" in found["broker"].message
    assert found["checkpoints"].message == "because database was skipped"
    # Services that run must have found them somewhere.
    running = examine(setting.config_file, running=True)
    assert [finding.check for finding in running if finding.state == "fault"] == ["database", "broker"]


def config(**changes: object) -> Callable[[Setting], None]:
    """Settings changed by their dotted names, with __ for the dot."""

    def change(setting: Setting) -> None:
        for name, value in changes.items():
            *sections, last = name.split("__")
            place = setting.settings
            for section in sections:
                place = place.setdefault(section, {})
            place[last] = value

    return change


def both(*changes: Callable[[Setting], None]) -> Callable[[Setting], None]:
    def change(setting: Setting) -> None:
        for one in changes:
            one(setting)

    return change


def env(**changes: str) -> Callable[[Setting], None]:
    return lambda setting: setting.env.update(changes)


def url(name: str, change: Callable[[str], str]) -> Callable[[Setting], None]:
    return lambda setting: setting.env.update({name: change(setting.env[name])})


def sql(*statements: str) -> Callable[[Setting], None]:
    return lambda setting: setting.sql(*statements)


def cut_weights(setting: Setting) -> None:
    weights = setting.model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def without_template(setting: Setting) -> None:
    (setting.model / "chat_template.jinja").unlink()


def another_base(setting: Setting) -> None:
    """Weights of the same shapes with other numbers in them."""
    file = setting.model / "model.safetensors"
    tensors = {name: tensor + 1 for name, tensor in safetensors.torch.load_file(file).items()}
    safetensors.torch.save_file(tensors, file, metadata={"format": "pt"})


def damage_adapter(setting: Setting) -> None:
    file = setting.checkpoint / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")


def lose_adapter(setting: Setting) -> None:
    (setting.checkpoint / "adapter_model.safetensors").unlink()


def with_store(**changes: str) -> Callable[[Setting], None]:
    """Keys of a store, and no other that this machine's user may have."""
    keys = {"AWS_ACCESS_KEY_ID": "KEY", "AWS_SECRET_ACCESS_KEY": "secret-key", "AWS_DEFAULT_REGION": "us-east-1"}
    return env(**{**keys, "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, **changes})


def a_file(setting: Setting) -> Path:
    file = setting.directory / "no-folder"
    file.write_text("")
    return file


def file_as_root(name: str) -> Callable[[Setting], None]:
    """A directory that cannot be made, whoever runs the tests: a file stands where its parent should."""

    def change(setting: Setting) -> None:
        (setting.directory / "a-file").write_text("")
        config(**{name: str(setting.directory / "a-file" / "in-it")})(setting)

    return change


CLOSED = free_port()
BROKEN = {
    "an unknown setting": (config(loop__ppo_intervall=3), "config", "loop.ppo_intervall", "unknown"),
    "a wrong value": (config(loop__ppo_interval=0), "config", "loop.ppo_interval", "got 0"),
    "a handle that is none": (config(accounts_to_follow=["no handle"]), "config", "accounts_to_follow.0", "no handle"),
    "a world clock that is none": (env(EXPLORER_CLOCK="fast"), "environment", "EXPLORER_CLOCK", "got 'fast'"),
    "an address of X that is none": (env(X_BASE_URL="api.twitter.com"), "environment", "X_BASE_URL", "cannot be used"),
    "a proof at what is not on this machine": (
        both(config(ppo__gate="open"), url("X_BASE_URL", lambda at: at.replace("127.0.0.1", "127.1"))),
        "proof settings", "ppo.gate", "127.1",
    ),
    "a budget too small for one request": (
        config(budget__max_usd_per_day=0.1), "budget", "budget.max_usd_per_day", "got 0.1, but reading one account",
    ),
    "live without a key": (lambda setting: setting.env.pop("X_API_SECRET"), "keys", "X_API_SECRET", "missing"),
    "keys of another account": (
        env(X_ACCESS_TOKEN="2000002-another"), "keys", "X_ACCESS_TOKEN", f"user 2000002, but user_id is {BOT_ID}",
    ),
    "an address of no database": (env(DATABASE_URL="mysql://127.0.0.1/x"), "database", "DATABASE_URL", "no PostgreSQL"),
    "a driver that is not installed": (
        env(DATABASE_URL="postgresql+asyncpg://e:secret-password@127.0.0.1/e"), "database", "DATABASE_URL", "asyncpg",
    ),
    "PostgreSQL is not there": (
        env(DATABASE_URL=f"postgresql+psycopg2://e:secret-password@127.0.0.1:{CLOSED}/e"),
        "database", "DATABASE_URL", "refused",
    ),
    "a host that is nowhere": (
        env(DATABASE_URL="postgresql+psycopg2://e@db.invalid/e"), "database", "DATABASE_URL", "db.invalid",
    ),
    "no such database": (
        url("DATABASE_URL", lambda at: at.replace("/test_", "/lost_")), "database", "DATABASE_URL", "does not exist",
    ),
    "a database that takes no writes": (
        lambda setting: setting.sql(f"ALTER DATABASE {setting.database} SET default_transaction_read_only TO on"),
        "database", "DATABASE_URL", "takes no writes",
    ),
    "an empty database": (
        sql("DROP SCHEMA public CASCADE", "CREATE SCHEMA public"), "schema", "DATABASE_URL", "no schema",
    ),
    "an older schema": (
        lambda setting: migrations.downgrade(setting.env["DATABASE_URL"], "0001"), "schema", "DATABASE_URL", "older",
    ),
    "a newer schema": (
        sql("UPDATE alembic_version SET version_num = '9999'"), "schema", "DATABASE_URL", "9999, which this version",
    ),
    "rows of another account": (
        sql("UPDATE bots SET user_id = '7'"), "bot", "user_id", f"got {BOT_ID}, but what bot explorer has",
    ),
    "a bot that was stopped": (
        sql("UPDATE bots SET stopped_at = now(), stop_reason = 'enough'"), "bot", "bots.stopped_at", "enough",
    ),
    "an address of no Redis": (env(REDIS_URL="amqp://127.0.0.1"), "broker", "REDIS_URL", "amqp://127.0.0.1"),
    "Redis is not there": (
        env(REDIS_URL=f"redis://:secret-password@127.0.0.1:{CLOSED}/0"), "broker", "REDIS_URL", "no connection",
    ),
    "a wrong password of Redis": (
        url("REDIS_URL", lambda at: f"redis://:secret-password@{at.split('@')[1]}"), "broker", "REDIS_URL", "let us in",
    ),
    "no password of Redis": (
        url("REDIS_URL", lambda at: f"redis://{at.split('@')[1]}"), "broker", "REDIS_URL", "does not let us in",
    ),
    "X is nowhere": (env(X_BASE_URL="https://x.invalid"), "x", "X_BASE_URL", "x.invalid has no address"),
    "X cannot be reached": (env(X_BASE_URL=f"http://127.0.0.1:{CLOSED}"), "x", "X_BASE_URL", "no answer"),
    "a key that X refuses": (env(X_API_SECRET="not-the-secret"), "account", "X_API_SECRET", "401"),
    "a handle that nobody has": (
        lambda setting: setting.settings["accounts_to_follow"].append("nobody_at_all"),
        "handles", "accounts_to_follow", "@nobody_at_all",
    ),
    "posts that X has refused": (
        sql(
            "UPDATE capabilities SET granted = false, source = 'response', reason = 'forbidden', "
            "retry_at = now() + interval '1 day' WHERE capability = 'post'"
        ),
        "permissions", "app permissions", "forbidden",
    ),
    "no such directory of a model": (
        config(model__hf_repo_id="/nowhere/at/all"), "model", "model.hf_repo_id", "/nowhere/at/all",
    ),
    "weights cut short": (cut_weights, "model", "model.hf_repo_id", "model.safetensors is damaged"),
    "weights missing": (
        lambda setting: (setting.model / "model.safetensors").unlink(), "model", "model.hf_repo_id", "lacks",
    ),
    "a tokenizer that is damaged": (
        lambda setting: (setting.model / "tokenizer.json").write_text("{"),
        "model", "model.hf_repo_id", "tokenizer.json",
    ),
    "no causal model": (
        lambda setting: setting.edit(setting.model / "config.json", architectures=["BertForMaskedLM"]),
        "model", "model.hf_repo_id", "BertForMaskedLM",
    ),
    "logits that change after the head": (
        lambda setting: setting.edit(setting.model / "config.json", final_logit_softcapping=30.0),
        "model", "model.hf_repo_id", "final_logit_softcapping",
    ),
    "modules that the model lacks": (
        config(ppo__lora__target_modules=["c_attn"]), "model", "model.hf_repo_id", "no module c_attn",
    ),
    "no chat template": (without_template, "model", "model.hf_repo_id", "no chat template"),
    "a checkpoint that is missing": (
        lambda setting: shutil.rmtree(setting.checkpoint), "checkpoints", "model.checkpoint_dir", "not there",
    ),
    "a checkpoint that lacks a file": (lose_adapter, "checkpoints", "model.checkpoint_dir", "lacks adapter_model"),
    "a checkpoint that is damaged": (damage_adapter, "checkpoints", "model.checkpoint_dir", "not the file"),
    "a checkpoint of another base": (another_base, "checkpoints", "model.hf_repo_id", "sits on base tiny"),
    "no place for data": (file_as_root("data_dir"), "data_dir", "data_dir", "cannot be written to"),
    "a shared URL with a password": (
        config(shared_url="s3://KEY:secret-password@bucket/x"), "config", "shared_url", "KEY:***@bucket",
    ),
    "a store that nobody knows": (
        config(shared_url="nothing://bucket/x"), "shared_url", "shared_url", "Protocol not known",
    ),
    "a store that is not there": (
        both(config(shared_url="s3://bucket/x"), with_store(AWS_ENDPOINT_URL=f"http://127.0.0.1:{CLOSED}")),
        "shared_url", "shared_url", "got s3://bucket/x, and cannot write",
    ),
    "a volume that takes no files": (
        lambda setting: config(shared_url=f"file://{a_file(setting)}/x")(setting), "shared_url", "shared_url", "cannot",
    ),
    "no place for checkpoints": (
        file_as_root("model__checkpoint_dir"), "checkpoint_dir", "model.checkpoint_dir", "cannot be written to",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_named(name: str, setting: Setting, examined: Callable[[], list[Finding]]) -> None:
    break_it, check, wrong, says = BROKEN[name]
    break_it(setting)
    setting.write()
    found = examined()
    fault = one_fault(found, check)
    assert wrong in fault.setting
    assert says in fault.message
    assert "secret" not in "".join(finding.message + (finding.remedy or "") for finding in found)


@pytest.mark.parametrize(("content", "says"), [(None, "no config at"), ("{", "YAML"), ("[a]", "holds list")])
def test_a_config_that_is_none(
    content: str | None, says: str, setting: Setting, examined: Callable[[], list[Finding]]
) -> None:
    if content is not None:
        setting.config_file.write_text(content)
    assert says in one_fault(examined(), "config").message


def test_each_wrong_setting_is_a_line(setting: Setting, examined: Callable[[], list[Finding]]) -> None:
    config(loop__ppo_interval=0, model__temperature=9)(setting)
    setting.write()
    assert [finding.setting for finding in examined() if finding.state == "fault"] == [
        "loop.ppo_interval",
        "model.temperature",
    ]


def test_an_old_python(
    setting: Setting, examined: Callable[[], list[Finding]], monkeypatch: pytest.MonkeyPatch
) -> None:
    setting.write()
    monkeypatch.setattr(sys, "version_info", (3, 10, 4, "final", 0))
    found = examined()
    assert one_fault(found, "python").message == "got 3.10.4"
    assert len(found) == 1


@pytest.mark.parametrize("trouble", [None, "no bucket", "no permission"])
def test_a_shared_store_is_tried_out(
    trouble: str | None, setting: Setting, examined: Callable[[], list[Finding]], s3_server: S3Server
) -> None:
    bucket = s3_server.new_bucket()
    url = "s3://never-made/explorer" if trouble == "no bucket" else bucket.url
    setting.settings["shared_url"] = url
    setting.env |= bucket.env
    setting.write()
    if trouble == "no permission":
        with s3_server.a_key_that_may_nothing() as env:
            setting.env |= env
            found = examined()
    else:
        found = examined()
    if trouble is None:
        said = {finding.check: finding.message for finding in found}
        assert said["shared_url"] == f"{url} can be written to, listed, read and deleted from"
        assert not any(finding.state == "fault" for finding in found)
        return
    fault = next(finding for finding in found if finding.check == "shared_url")
    assert (fault.state, fault.setting) == ("fault", "shared_url")
    assert f"got {url}" in fault.message
    assert ("make the bucket" if trouble == "no bucket" else "let the key") in str(fault.remedy)
    assert setting.env["AWS_SECRET_ACCESS_KEY"] not in fault.message
