"""The sources on disk: an X archive, JSONL, a Hugging Face data set."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from app.config import Secrets, SFTConfig, VibeBotConfig
from app.context import BotContext
from app.data import files, manifest
from app.data import sources as sources_module
from app.data.gathering import gather
from app.data.records import Record
from app.data.sources import ArchiveSource, local_source
from app.loading import ConfigError
from dbs.models import DataSet
from dbs.session import Database

ARCHIVED = [
    {"id_str": "20", "full_text": "Just setting up my tram map &amp; more.", "lang": "en", "favorite_count": "12",
     "retweet_count": "3", "created_at": "Wed Oct 10 20:19:24 +0000 2018"},
    {"id_str": "21", "full_text": "@me And the second part of it.", "lang": "en", "in_reply_to_status_id_str": "20",
     "created_at": "Wed Oct 10 20:20:24 +0000 2018"},
    {"id_str": "22", "full_text": "RT @ada: not mine", "lang": "en", "created_at": "Wed Oct 10 20:21:24 +0000 2018"},
]  # fmt: skip


def archive(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("data/account.js", 'window.YTD.account.part0 = [{"account": {"accountId": "1000001"}}]')
        parts = {"tweets.js": ARCHIVED[:2], "tweets-part1.js": ARCHIVED[2:]}
        for name, posts in parts.items():
            made.writestr(f"data/{name}", f"window.YTD.tweets.part0 = {json.dumps([{'tweet': p} for p in posts])}")
        made.writestr("data/deleted-tweets.js", "window.YTD.deleted_tweets.part0 = []")
    return path


def bot(config: VibeBotConfig, database: Database, **sft: Any) -> BotContext:
    changed = SFTConfig.model_validate(config.sft.model_dump() | sft)
    # The live X, without keys: sources on disk need neither an opt-in nor X.
    context = BotContext(config.model_copy(update={"sft": changed}), secrets=Secrets(), db=database)
    context.enrol()
    return context


def records(context: BotContext) -> list[Record]:
    with context.db.transaction() as session:
        entries = manifest.entries_of(session.get_one(DataSet, context.config.bot_id))
    return [record for _, record in files.positions(manifest.directory(context.config), entries)]


def test_an_archive_is_ones_own_posts(config: VibeBotConfig, database: Database, tmp_path: Path) -> None:
    path = archive(tmp_path / "twitter-archive.zip")
    context = bot(config, database, source="archive", path=str(path))
    found = gather(context)
    assert (found.posts, found.dropped, found.usd) == (2, {"repost": 1}, 0.0)
    second, first = records(context)
    assert (first.post_id, first.author_id, first.text) == ("20", "1000001", "Just setting up my tram map & more.")
    assert first.created_at == "2018-10-10T20:19:24+00:00"
    assert (second.parent_text, second.parent_handle) == (first.text, "me")
    own = ArchiveSource(path).own_posts()
    assert [(item.post.post_id, item.likes, item.retweets) for item in own][-1] == ("20", 12, 3)


def test_jsonl_is_read_page_by_page(
    config: VibeBotConfig, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources_module, "PAGE", 3)
    path = tmp_path / "posts.jsonl"
    lines = [
        json.dumps({"id": str(i), "text": f"Line {i} of heron number {i * 31}.", "author_id": "a"}) for i in range(8)
    ]
    path.write_text("\n".join(lines[:4]) + "\n\n" + "\n".join(lines[4:]))
    context = bot(config, database, source="jsonl", path=str(path))
    assert gather(context).posts == 8
    assert [record.post_id for record in records(context)] == [str(i) for i in range(8)]
    with context.db.transaction() as session:
        assert manifest.accounts(session, "explorer")[0].turns == 3


def test_a_data_set_on_disk(config: VibeBotConfig, database: Database, tmp_path: Path) -> None:
    rows = {"text": ["The heron stood by the mill.", "Der Reiher"], "lang": ["en", "de"]}
    Dataset.from_dict(rows).save_to_disk(str(tmp_path / "set"))
    context = bot(config, database, source="dataset", path=str(tmp_path / "set"))
    found = gather(context)
    assert (found.posts, found.dropped) == (1, {"other_language": 1})


@pytest.mark.parametrize(
    ("source", "content", "message"),
    [
        ("jsonl", '{"text": 1}\n', r"byte 0: got .*an object with a 'text'"),
        ("jsonl", '{"text": "ok"}\n{"tex\n', r"byte 15: no JSON"),
        ("archive", "not a zip", "is no zip"),
        ("dataset", "a file", "is no data set"),
    ],
)
def test_a_source_that_cannot_be_used_says_why(
    config: VibeBotConfig, database: Database, tmp_path: Path, source: str, content: str, message: str
) -> None:
    path = tmp_path / "posts"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        gather(bot(config, database, source=source, path=str(path)))


def test_a_path_is_asked_for(config: VibeBotConfig) -> None:
    with pytest.raises(ValueError, match="needs path"):
        SFTConfig(source="jsonl")
    with pytest.raises(ConfigError, match=r"sft\.path.*not there"):
        local_source(SFTConfig(source="jsonl", path="nowhere.jsonl"))


def test_a_forgotten_record_leaves_valid_json_and_everything_else_in_place(tmp_path: Path) -> None:
    with files.Appender(tmp_path, [], 10_000) as appender:
        lines = [f'{{"post_id":"{i}","author_id":"a","text":"t{i}"}}'.encode() for i in range(3)]
        places = [appender.append(line) for line in lines]
        entries = appender.sync()
    changed = files.rewrite(tmp_path, entries, lambda record: None if record.post_id == "1" else record)
    assert changed == (2, 4)
    again = files.rewrite(tmp_path, entries, lambda record: replace(record, lang=None))
    assert again == changed
    assert json.loads((tmp_path / "0.json").read_bytes())[1] is None
    kept = list(files.positions(tmp_path, entries))
    assert [(place, record.post_id) for place, record in kept] == [(places[0], "0"), (places[2], "2")]
    assert list(files.positions(tmp_path, entries, since=places[2])) == kept[1:]
    assert list(files.positions(tmp_path, entries, since=files.end_of(entries))) == []
