"""The export: every row of the bot and no other's, in files that are whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from factories import BOT, give_checkpoint, give_draft, give_persona, give_seen
from sqlalchemy import func, select
from typer.testing import CliRunner

from app import clock, events, loops
from app.cli import app as cli
from app.config import VibeBotConfig
from app.export import ExportError, export
from app.posting import queue_drafts
from dbs.models import Bot
from dbs.models.base import Base
from dbs.session import Database


@pytest.fixture
def lived(database: Database, bot: Bot, config: VibeBotConfig) -> Database:
    """A bot that has done some of everything, beside another one."""
    with database.transaction() as session:
        session.add(Bot(bot_id="other", user_id="2", created_at=clock.now()))
        session.flush()
        events.record(session, "other", "loops.paused")
        give_persona(session)
        loops.ensure(session, config)
        checkpoint = give_checkpoint(session)
        give_seen(session, "55", text='Zürich \u2028 "quoted"\nand a second line')
        give_draft(session, checkpoint, "A first text of the bot.")
        give_draft(session, checkpoint, "Another one, about tide pools.")
    queue_drafts(database, config)
    return database


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]


def test_every_row_of_the_bot_and_no_others(lived: Database, tmp_path: Path) -> None:
    with lived.transaction() as session:
        counts = export(session, BOT, tmp_path / "out")
        exported = [table for table in Base.metadata.sorted_tables if table.name != "oauth2_tokens"]
        assert counts.keys() == {table.name for table in exported}
        for table in exported:
            found = lines(tmp_path / "out" / f"{table.name}.jsonl")
            assert len(found) == counts[table.name]
            if "bot_id" in table.c:
                mine = select(func.count()).select_from(table).where(table.c.bot_id == BOT)
                assert session.execute(mine).scalar_one() == len(found)
                assert all(row["bot_id"] == BOT for row in found)
    assert counts["bot_db"] == counts["drafts"] == 2
    (post,) = lines(tmp_path / "out" / "timeline_posts.jsonl")
    assert post["text"] == 'Zürich \u2028 "quoted"\nand a second line'
    assert not list((tmp_path / "out").glob("*.partial"))


def test_some_tables_and_what_is_there_already(lived: Database, tmp_path: Path) -> None:
    with lived.transaction() as session:
        assert export(session, BOT, tmp_path, ["drafts"]) == {"drafts": 2}
        with pytest.raises(ExportError, match=r"drafts\.jsonl already"):
            export(session, BOT, tmp_path)
        with pytest.raises(ExportError, match=r"got nonsense; there are .*bot_db"):
            export(session, BOT, tmp_path / "new", ["nonsense"])
        with pytest.raises(ExportError, match="got oauth2_tokens"):
            export(session, BOT, tmp_path / "new", ["oauth2_tokens"])
    assert [file.name for file in tmp_path.iterdir()] == ["drafts.jsonl"]


def test_the_command(
    lived: Database, config: VibeBotConfig, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "explorer.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    monkeypatch.setenv("DATABASE_URL", database_url)
    command = ["export", str(tmp_path / "out"), "--table", "bot_db", "--config", str(tmp_path / "explorer.yaml")]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    assert {row["state"] for row in lines(tmp_path / "out" / "bot_db.jsonl")} == {"queued"}
    again = CliRunner().invoke(cli, command)
    assert again.exit_code == 1
    assert "already" in again.output
