"""A set-up in which all is well, for tests that break one thing of it, and what is broken."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from scripted_x import Reply, Request, Script, user
from sqlalchemy import create_engine, make_url, text

from app.context import BotContext
from app.doctor.findings import Finding
from app.loading import parse_config
from app.policy import checkpoints, registry
from app.policy.checkpoints import AdapterRef, Manifest
from app.sandbox.settings import Keys
from dbs.session import Database

BOT_ID = "1000001"
# Of a healthy set-up, because nothing is asked for with --running.
SKIPPED_WHEN_WELL = {"workers", "beat"}


@dataclass
class Setting:
    """Where the set-up's parts are, and the two things that a user edits: the config and the environment.

    Attributes:
        settings: what will stand in explorer.yaml.
        env: what will stand in the environment.
        checkpoint: directory of the checkpoint that is current.
    """

    directory: Path
    settings: dict[str, Any]
    env: dict[str, str]
    checkpoint: Path

    @property
    def config_file(self) -> Path:
        return self.directory / "explorer.yaml"

    @property
    def model(self) -> Path:
        return Path(self.settings["model"]["hf_repo_id"])

    @property
    def database(self) -> str:
        return str(make_url(self.env["DATABASE_URL"]).database)

    def write(self) -> None:
        self.config_file.write_text(yaml.safe_dump(self.settings))

    def edit(self, file: Path, **changes: Any) -> None:
        """Change what a JSON file says; None takes it out."""
        held = json.loads(file.read_text()) | changes
        file.write_text(json.dumps({name: value for name, value in held.items() if value is not None}))

    def sql(self, *statements: str) -> None:
        engine = create_engine(self.env["DATABASE_URL"], isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for statement in statements:
                connection.execute(text(statement))
        engine.dispose()


def healthy(directory: Path, model: Path, database_url: str, redis_url: str, x_url: str, handles: list[str]) -> Setting:
    """A bot that has run before and writes with a checkpoint of its own."""
    keys = Keys()
    settings = {
        "user_id": BOT_ID,
        "live": True,
        "accounts_to_follow": list(handles),
        "persona": {"name": "E", "description": "d", "tone": "t", "interests": ["i"]},
        "model": {"hf_repo_id": str(model), "checkpoint_dir": str(directory / "checkpoints")},
        "data_dir": str(directory / "data"),
    }
    env = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "X_BASE_URL": x_url,
        "X_API_KEY": keys.api_key,
        "X_API_SECRET": keys.api_secret,
        "X_ACCESS_TOKEN": keys.access_token,
        "X_ACCESS_TOKEN_SECRET": keys.access_token_secret,
        "EXPLORER_CLOCK": "wall",
    }
    return Setting(directory, settings, env, _enrolled_with_checkpoint(settings, model, database_url))


def _enrolled_with_checkpoint(settings: dict[str, Any], model: Path, database_url: str) -> Path:
    import torch  # most tests here do without it

    config = parse_config(settings)
    db = Database(database_url)
    BotContext(config, db=db).enrol()
    base = checkpoints.base_hash(model)
    new = uuid.uuid4()
    manifest = Manifest(
        checkpoint_id=new, bot_id=config.bot_id, kind="ppo", base_model="tiny", base_hash=base,
        stack=[AdapterRef(name="policy", checkpoint_id=new)], created_at=datetime.now(UTC),
    )  # fmt: skip
    root = config.model.checkpoint_dir
    place, manifest = checkpoints.write(root, {"a.lora_A.weight": torch.ones(2, 2)}, {"r": 2}, manifest)
    with db.transaction() as session:
        registry.ensure_base(session, config.bot_id, "tiny", base)
        registry.commit(session, manifest)
        registry.promote(session, root, config.bot_id, new)
    db.close()
    return place


def answering(me: Reply) -> Script:
    """What a scripted X says: `me` to who asks whose keys these are, and somebody for every handle."""

    def answer(request: Request) -> Reply:
        if request.path == "/2/users/me":
            return me
        names = request.query["usernames"].split(",")
        return Reply(body={"data": [user(str(7 + number), name) for number, name in enumerate(names)]})

    return answer


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
