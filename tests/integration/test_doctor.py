"""`explorer doctor` on a healthy set-up, and on each of many that are broken in one place."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import redis
import safetensors.torch
import torch
from healthy_setup import BOT_ID, PASSWORD, Setting, answering, healthy
from sandbox_server import Server
from scripted_x import Reply, ScriptedX, problem, user
from tiny_model import save_tiny_model

from app import clock
from app.doctor import broker
from app.doctor.examination import examine
from app.doctor.findings import Finding
from app.learning import limits
from app.local.observer import Observer
from app.local.servers import EmbeddedPostgres, EmbeddedRedis, free_port
from dbs import migrations

ROOT = Path(__file__).parents[2]
# Where nothing is asked for with --running.
SKIPPED_WHEN_WELL = {"workers", "beat"}


@pytest.fixture(scope="module")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("sandbox"), speed=1.0).start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def handles(sandbox: Server) -> list[str]:
    return Observer(sandbox.base_url).handles(2)


@pytest.fixture
def setting(
    tmp_path: Path, model_files: Path, database_url: str, redis_url: str, sandbox: Server, handles: list[str]
) -> Setting:
    model = tmp_path / "tiny"
    shutil.copytree(model_files, model)
    return healthy(tmp_path, model, database_url, redis_url, sandbox.base_url, handles)


@pytest.fixture
def x() -> Iterator[ScriptedX]:
    server = ScriptedX()
    yield server
    server.close()


@pytest.fixture
def examined(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Finding]]:
    """Writes the config, unless it is there, sets the environment, and examines both."""

    def run() -> list[Finding]:
        monkeypatch.chdir(setting.directory)
        for name in ("DATABASE_URL", "REDIS_URL", *(name for name in os.environ if name.startswith("X_"))):
            monkeypatch.delenv(name, raising=False)
        for name, value in setting.env.items():
            monkeypatch.setenv(name, value)
        return list(examine(setting.config_file))

    return run


def test_nothing_is_at_fault_where_all_is_well(setting: Setting, examined: Callable[[], list[Finding]]) -> None:
    setting.write()
    found = examined()
    assert {finding.check for finding in found if finding.state != "ok"} == SKIPPED_WHEN_WELL
    assert not any(finding.state == "fault" for finding in found)


@pytest.mark.skipif(
    any(socket.socket().connect_ex(("127.0.0.1", port)) == 0 for port in (5432, 6379)),
    reason="servers are at the default addresses of this machine",
)
def test_a_machine_on_which_nothing_has_run_has_no_fault(
    setting: Setting, examined: Callable[[], list[Finding]]
) -> None:
    """As before the first `explorer up`, which brings its own servers."""
    del setting.env["DATABASE_URL"], setting.env["REDIS_URL"]
    setting.write()
    found = {finding.check: finding for finding in examined()}
    assert not [finding for finding in found.values() if finding.state == "fault"]
    assert "`explorer up` brings its own" in found["database"].message
    assert "`explorer up` brings its own" in found["broker"].message
    assert found["checkpoints"].message == "because database was skipped"


def one_fault(found: list[Finding], check: str) -> Finding:
    """The one fault there is, of that check; everything else passed or was skipped, and says why."""
    faults = [finding for finding in found if finding.state == "fault"]
    assert [fault.check for fault in faults] == [check], faults
    assert faults[0].setting
    assert faults[0].remedy
    skipped = {finding.check: finding.message for finding in found if finding.state == "skipped"}
    assert all(
        why == f"because {check} is at fault" for name, why in skipped.items() if name not in SKIPPED_WHEN_WELL
    ), skipped
    return faults[0]


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


@pytest.fixture
def role(postgres: EmbeddedPostgres, setting: Setting) -> Iterator[str]:
    """A role whose password the server asks for; of the others it asks none."""
    name = f"role_{uuid.uuid4().hex}"
    rules = postgres.directory / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(f"local all {name} scram-sha-256\n{before}")
    setting.sql(f"CREATE ROLE {name} SUPERUSER LOGIN PASSWORD '{PASSWORD}'", "SELECT pg_reload_conf()")
    yield name
    rules.write_text(before)
    setting.sql("SELECT pg_reload_conf()", f"DROP ROLE {name}")


@pytest.mark.parametrize(("password", "well"), [(PASSWORD, True), ("secret-mistyped", False), ("", False)])
def test_a_password_of_the_database(
    password: str, well: bool, role: str, setting: Setting, examined: Callable[[], list[Finding]]
) -> None:
    setting.write()
    as_owner = setting.env["DATABASE_URL"]
    credentials = f"{role}:{password}" if password else role
    user_part = as_owner.split("://")[1].split("@")[0]
    setting.env["DATABASE_URL"] = as_owner.replace(f"{user_part}@", f"{credentials}@")
    found = examined()
    setting.env["DATABASE_URL"] = as_owner
    if well:
        assert not [finding for finding in found if finding.state == "fault"]
    else:
        fault = one_fault(found, "database")
        assert ("password authentication failed" if password else "no password supplied") in fault.message
        assert "secret" not in fault.message
    assert PASSWORD not in "".join(finding.message for finding in found)


def test_a_role_that_may_not_read(role: str, setting: Setting, examined: Callable[[], list[Finding]]) -> None:
    setting.sql(f"ALTER ROLE {role} NOSUPERUSER")
    setting.write()
    as_owner = setting.env["DATABASE_URL"]
    user_part = as_owner.split("://")[1].split("@")[0]
    setting.env["DATABASE_URL"] = as_owner.replace(f"{user_part}@", f"{role}:{PASSWORD}@")
    fault = one_fault(examined(), "schema")
    setting.env["DATABASE_URL"] = as_owner
    assert fault.setting == "DATABASE_URL"
    assert "permission denied" in fault.message


def test_an_eviction_that_loses_messages(
    setting: Setting, examined: Callable[[], list[Finding]], tmp_path: Path
) -> None:
    server = EmbeddedRedis(tmp_path / "redis")
    setting.env["REDIS_URL"] = server.start()
    try:
        with redis.Redis.from_url(setting.env["REDIS_URL"]) as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
            client.config_set("maxmemory", "100mb")
        setting.write()
        fault = one_fault(examined(), "eviction")
        assert (fault.setting, "allkeys-lru" in fault.message) == ("maxmemory-policy", True)
        with redis.Redis.from_url(setting.env["REDIS_URL"]) as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "1kb")
        assert "takes no message" in one_fault(examined(), "broker").message
    finally:
        server.stop()


@pytest.mark.parametrize("server", ["scripted", "sandbox"])
def test_what_is_no_redis(
    server: str, setting: Setting, x: ScriptedX, examined: Callable[[], list[Finding]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two web servers, one answers Redis's greeting by an error of its own, and one waits for more."""
    monkeypatch.setattr(broker, "SECONDS", 0.5)
    address = x.url if server == "scripted" else setting.env["X_BASE_URL"]
    setting.env["REDIS_URL"] = address.replace("http:", "redis:")
    setting.write()
    fault = one_fault(examined(), "broker")
    assert fault.setting == "REDIS_URL"
    assert "is no Redis" in fault.message


BOT = {"data": user(BOT_ID, "explorer_bot")}
BY_X = {
    "an app that may only read": (
        Reply(body=BOT, headers={"x-access-level": "read"}), "permissions", "app permissions", "may only read",
    ),
    "an app that X does not let in": (
        Reply(403, problem("client-forbidden", "the app must be attached to a project")),
        "account", "app permissions", "attached to a project",
    ),
    "an account that is locked": (
        Reply(403, {"errors": [{"code": 326, "message": "your account is temporarily locked"}]}),
        "account", "user_id", "temporarily locked",
    ),
    "an app without credits": (
        Reply(402, problem("credits-depleted", "no credits left")), "account", "budget.tier", "no credits left",
    ),
    "keys of somebody else": (
        Reply(body={"data": user("2000002", "somebody")}), "account", "user_id", "@somebody, 2000002",
    ),
    "something that is not X": (Reply(404, b"<html>"), "account", "X_BASE_URL", "as X does not"),
    "an X that is down": (Reply(503, {}), "x", "X_BASE_URL", "503"),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_X)
def test_what_x_says(name: str, setting: Setting, x: ScriptedX, examined: Callable[[], list[Finding]]) -> None:
    reply, check, wrong, says = BY_X[name]
    x.otherwise = answering(reply)
    setting.env["X_BASE_URL"] = x.url
    setting.write()
    fault = one_fault(examined(), check)
    assert fault.setting == wrong
    assert says in fault.message


def test_a_dry_run_needs_only_to_read(setting: Setting, x: ScriptedX, examined: Callable[[], list[Finding]]) -> None:
    x.otherwise = answering(Reply(body=BOT, headers={"x-access-level": "read"}))
    setting.env["X_BASE_URL"] = x.url
    setting.settings["live"] = False
    setting.write()
    assert not [finding for finding in examined() if finding.state == "fault"]


def test_an_x_that_does_not_say_what_time_it_is(
    setting: Setting, x: ScriptedX, examined: Callable[[], list[Finding]]
) -> None:
    x.otherwise = answering(Reply(401, {}, {"Date": "some time ago"}))
    setting.env["X_BASE_URL"] = x.url
    setting.write()
    assert "X_API_KEY" in (one_fault(examined(), "account").setting or "")


@pytest.mark.parametrize(("off", "way"), [(-600, "ahead of"), (600, "behind"), (20, "")])
def test_a_clock_that_is_off(
    off: int, way: str, setting: Setting, x: ScriptedX, examined: Callable[[], list[Finding]]
) -> None:
    """X refuses what was signed at another time, so the clock is named, and not the keys."""
    date = format_datetime(clock.wall_now() + timedelta(seconds=off), usegmt=True)
    refused = {"errors": [{"code": 135, "message": "Timestamp out of bounds."}]}
    x.otherwise = answering(Reply(401, refused, {"Date": date}) if way else Reply(200, BOT, {"Date": date}))
    setting.env["X_BASE_URL"] = x.url
    setting.write()
    found = examined()
    if way:
        fault = one_fault(found, "clock")
        assert fault.setting == "system clock"
        assert f"s {way} X's" in fault.message
    else:
        assert not [finding for finding in found if finding.state == "fault"]


def test_a_model_that_the_hub_would_have_to_give(
    setting: Setting, examined: Callable[[], list[Finding]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{CLOSED}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(setting.directory / "hub"))
    setting.settings["model"]["hf_repo_id"] = "nobody/nothing"
    setting.write()
    fault = one_fault(examined(), "model")
    assert fault.setting == "model.hf_repo_id"
    assert "could not be fetched from the Hugging Face hub" in fault.message


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has what the config asks for")
def test_a_gpu_that_is_not_there(setting: Setting, examined: Callable[[], list[Finding]]) -> None:
    setting.settings["model"]["device"] = "cuda"
    setting.write()
    fault = one_fault(examined(), "device")
    assert (fault.setting, fault.remedy) == ("model.device", "use 'auto' or 'cpu'")


def test_a_full_disk(setting: Setting, examined: Callable[[], list[Finding]], monkeypatch: pytest.MonkeyPatch) -> None:
    setting.write()
    real = shutil.disk_usage(setting.directory)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: real._replace(free=100 * 2**20))
    fault = one_fault(examined(), "disk")
    assert fault.setting == "data_dir, model.checkpoint_dir"
    assert "0.1 GB free" in fault.message


def test_little_memory(
    setting: Setting, examined: Callable[[], list[Finding]], monkeypatch: pytest.MonkeyPatch
) -> None:
    setting.write()
    container = setting.directory / "memory.max"
    container.write_text(f"{800 * 10**6}\n")
    monkeypatch.setattr(limits, "CONTAINER_LIMITS", (str(container),))
    assert "0.8 GB of memory" in one_fault(examined(), "memory").message


COMMAND = "from app.cli import main; main()"
IMPATIENT = f"from workers import health; health.REPLY_SECONDS = health.TICK_SECONDS = 1.0; {COMMAND}"
LIGHT = f"""
import atexit, sys
atexit.register(lambda: print("heavy:", sorted({{"torch", "transformers", "peft"}} & sys.modules.keys())))
{COMMAND}
"""


def doctor(setting: Setting, *options: str, code: str = COMMAND) -> tuple[int, str]:
    setting.write()
    command = [sys.executable, "-c", code, "doctor", "--config", str(setting.config_file), *options]
    done = subprocess.run(
        command, cwd=setting.directory, env={**os.environ, **setting.env, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not done.stderr
    return done.returncode, done.stdout


def test_the_command_tells_people_and_machines(setting: Setting) -> None:
    code, said = doctor(setting, code=LIGHT)
    assert (code, said.splitlines()[-2:]) == (0, ["nothing at fault", "heavy: []"])
    setting.env["X_API_SECRET"] = "not-the-secret"
    code, said = doctor(setting)
    assert (code, said.splitlines()[-1]) == (1, "1 at fault")
    line = next(line for line in said.splitlines() if line.startswith("fault"))
    assert line.startswith("fault   account         X_API_KEY, X_API_SECRET")
    code, said = doctor(setting, "--json")
    report = json.loads(said)
    assert (code, report["faults"]) == (1, 1)
    assert [finding["check"] for finding in report["findings"] if finding["state"] == "fault"] == ["account"]
    assert {field.name for field in dataclasses.fields(Finding)} == set(report["findings"][0])


def test_one_room_is_examined_with_what_it_needs(setting: Setting) -> None:
    """As in a container that has the model and no keys of X."""
    for name in ("X_API_KEY", "X_API_SECRET", "X_ACCESS_TOKEN", "X_ACCESS_TOKEN_SECRET"):
        del setting.env[name]
    code, said = doctor(setting, "--only", "model", "--json")
    report = json.loads(said)
    assert (code, report["faults"]) == (0, 0)
    assert [finding["check"] for finding in report["findings"]] == [
        *("python", "config", "environment", "database", "schema", "bot"),
        *("packages", "model", "device", "checkpoint_dir", "checkpoints"),
    ]


def test_services_that_do_not_run_are_named_when_they_should(setting: Setting) -> None:
    """An I/O worker and beat run, the GPU service does not; then nothing does."""
    environment = {**os.environ, **setting.env, "PYTHONPATH": str(ROOT), "EXPLORER_CONFIG": str(setting.config_file)}
    setting.write()
    commands = (
        ["workers.io", "--name", "io", "--concurrency", "1"],
        ["celery", "-A", "app", "beat", "--schedule", str(setting.directory / "beat"), "--pidfile="],
    )
    with (setting.directory / "services.log").open("wb") as log:
        services = [
            subprocess.Popen([sys.executable, "-m", *command], env=environment, stdout=log, stderr=log, cwd=ROOT)
            for command in commands
        ]
        try:
            wait_for(lambda: " ready" in (setting.directory / "services.log").read_text())
            code, said = doctor(setting, "--running", "--json")
        finally:
            for service in services:
                service.kill()
                service.wait()
    found = [Finding(**finding) for finding in json.loads(said)["findings"]]
    faults = [finding for finding in found if finding.state == "fault"]
    assert [fault.setting for fault in faults] == ["queue generation", "queue training"]
    assert {finding.check: finding.message for finding in found}["beat"] == "sends ticks"
    code, said = doctor(setting, "--running", "--json", code=IMPATIENT)
    faults = [finding for finding in json.loads(said)["findings"] if finding["state"] == "fault"]
    assert code == 1
    assert {fault["check"] for fault in faults} == {"workers", "beat"}
    assert {fault["setting"] for fault in faults} > {"queue timeline", "queue publishing", "beat"}


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = clock.wall_now() + timedelta(seconds=seconds)
    while not condition():
        assert clock.wall_now() < deadline
        time.sleep(0.1)
