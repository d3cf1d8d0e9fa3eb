"""`explorer doctor` where servers, X or the machine are what is wrong, beyond what config and files can break."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import redis
from healthy_setup import BOT_ID, Setting, answering, one_fault
from scripted_x import Reply, ScriptedX, problem, user

from app import clock
from app.doctor import broker
from app.doctor.findings import Finding
from app.learning import limits
from app.local.servers import EmbeddedPostgres, EmbeddedRedis, free_port

PASSWORD = "correct-horse-battery"
CLOSED = free_port()


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


def test_a_gpu_that_is_not_there(setting: Setting, examined: Callable[[], list[Finding]]) -> None:
    setting.env["CUDA_VISIBLE_DEVICES"] = ""  # for where there is one
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
