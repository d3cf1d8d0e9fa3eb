"""The data set of machines that share a store: gathered on one, read on another, forgotten on a third."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from factories import BOT
from s3_server import Bucket
from scripted_x import Reply, problem
from test_gathering import plain, run
from timelines import FIRST, Plant, Timelines

from app import clock
from app.context import BotContext
from app.data import clearing, files, jump_start, manifest
from app.data.clearing import clear_files, settle
from app.data.files import path_of
from app.data.forgetting import BY_HAND, forget
from app.data.vanished import forget_vanished
from app.data.working_copy import WorkingCopy
from app.loops import PutOff
from app.policy import checkpoints
from app.policy.pointers import PointerReader
from app.shared_files import SharedFiles, SharedFilesError
from app.talk import _export
from dbs.models import DataSet, Forgotten, QuoteComment, RateWindow
from dbs.states import DataSetState, RunState

CANARY = "quagga"


@pytest.fixture
def store(bucket: Bucket) -> SharedFiles:
    return SharedFiles(bucket.url)


@pytest.fixture
def ours(plant: Plant, bucket: Bucket) -> tuple[BotContext, Timelines]:
    posts = [plain(number) for number in range(60)]
    posts[3] = posts[3] | {"text": f"The {CANARY} was counted at the old mill."}
    posts[50] = posts[50] | {"text": f"Another {CANARY} came by the bridge today."}
    context, x = plant({"7": posts, "8": [plain(number) for number in range(100, 130)]})
    context.config = context.config.model_copy(update={"shared_url": bucket.url})
    return context, x


def elsewhere(context: BotContext, name: str) -> BotContext:
    """The same bot on a machine of its own."""
    place = Path(context.config.data_dir).parent / name
    config = context.config.model_copy(update={"data_dir": str(place)})
    return BotContext(config, secrets=context.secrets, db=context.db)


def row_of(context: BotContext) -> DataSet:
    with context.db.transaction() as session:
        return session.get_one(DataSet, BOT)


def local(context: BotContext) -> list[str]:
    return sorted(file.name for file in manifest.directory(context.config).glob("[0-9]*.json"))


def texts(context: BotContext) -> list[str]:
    with context.db.transaction() as session:
        row = session.get_one(DataSet, BOT, with_for_update=True)
        found = manifest.working_copy(context.config, row).positions(manifest.entries_of(row))
        return [record.text for _, record in found]


def at_the_store(store: SharedFiles, scratch: Path) -> str:
    """Everything in every object, as text."""
    said = []
    for name in store.below("jump_start_files"):
        assert store.get(name, scratch)
        said.append(scratch.read_text())
    return "".join(said)


def put_off(context: BotContext, x: Timelines, pages: int) -> None:
    """Gather until X's window is empty after so many pages."""
    real, x.x.otherwise = x.x.otherwise, None

    def answer(request: Any) -> Reply:
        if len(x.pages) >= pages:
            return Reply(429, problem("rate-limit-exceeded", "later"))
        return x.answer(request)

    x.x.otherwise = answer
    with pytest.raises(PutOff):
        run(context, wait=False)
    x.x.otherwise = real
    with context.db.transaction() as session:
        for window in session.query(RateWindow):
            session.delete(window)


def test_what_was_gathered_lies_at_the_store_and_is_read_from_there(ours, store: SharedFiles) -> None:
    context, _ = ours
    found = run(context)
    assert found.complete
    assert found.files > 2
    names = [name for name in store.below(f"jump_start_files/{BOT}") if not name.endswith("manifest.json")]
    assert len(names) == found.files
    assert local(context) == [], "a data set that is complete is only read"
    reader = elsewhere(context, "b")
    assert len(texts(reader)) == found.posts == 90
    assert local(reader) == [f"{number}.json" for number in range(found.files)]
    settle(reader.db, reader.config)
    assert local(reader) == []


def test_each_closed_file_is_put_there_once_and_while_others_are_gathered(
    ours, store: SharedFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, x = ours
    put: list[tuple[str, int]] = []
    real = SharedFiles.put

    def note(self: SharedFiles, place: Path, name: str) -> None:
        put.append((name.rpartition("/")[2], len(x.pages)))
        real(self, place, name)

    monkeypatch.setattr(SharedFiles, "put", note)
    found = run(context)
    data = [name for name, _ in put if name != "manifest.json"]
    assert len(data) == len(set(data)) == found.files
    assert put[0][1] < len(x.pages) or found.files == 1


def test_another_machine_goes_on_where_gathering_was_put_off(plant: Plant, bucket: Bucket, store: SharedFiles) -> None:
    context, x = plant({"7": [plain(number) for number in range(250)], "8": [plain(n) for n in range(300, 500)]})
    context.config = context.config.model_copy(update={"shared_url": bucket.url})
    put_off(context, x, pages=2)
    open_then = row_of(context).files[-1]
    other = elsewhere(context, "b")
    put_off(other, x, pages=4)
    assert row_of(context).files[-1] != open_then
    assert local(other)
    # Back on the first: its open file is no longer the one that counts, whatever a killed process left behind it.
    last = path_of(manifest.directory(context.config), len(row_of(context).files) - 1)
    if last.exists():
        last.write_bytes(last.read_bytes() + b"#" * 5_000)
    found = run(context)
    assert found.complete
    assert sorted(texts(elsewhere(context, "c"))) == sorted(
        plain(number)["text"] for number in [*range(250), *range(300, 500)]
    )


def test_a_machine_that_lacks_the_newest_bytes_gathers_nothing(ours, monkeypatch: pytest.MonkeyPatch) -> None:
    context, x = ours

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # killed: nothing of what it had to say at the end is said
        patch.setattr("app.data.gathering._end", die)
        with pytest.raises(KeyboardInterrupt):
            run(context)
    before, asked = row_of(context), len(x.pages)
    with pytest.raises(
        SharedFilesError, match=r"^shared_url: got s3:.*has 0 bytes, the database counts.*gathered last"
    ):
        run(elsewhere(context, "b"))
    after = row_of(context)
    assert (after.files, after.posts, len(x.pages)) == (before.files, before.posts, asked)
    assert run(context).complete, "the machine that has them goes on"
    assert len(texts(elsewhere(context, "b"))) == 90


def test_a_copy_that_is_older_is_never_put_there(ours, store: SharedFiles) -> None:
    """A machine whose open file is that of a page long ago, and longer by what was never committed, ends gathering."""
    context, x = ours
    put_off(context, x, pages=1)
    last = path_of(manifest.directory(context.config), len(row_of(context).files) - 1)
    other = elsewhere(context, "b")
    run(other)
    last.write_bytes(last.read_bytes() + b"#" * 5_000)
    with context.db.transaction() as session:
        manifest.export(session, context.config, whole=True)
    assert len(texts(elsewhere(context, "c"))) == 90


def test_a_closed_file_that_the_store_does_not_take_is_taken_later(ours, monkeypatch: pytest.MonkeyPatch) -> None:
    context, _ = ours
    real, broken = SharedFiles.put, True

    def refuse(self: SharedFiles, place: Path, name: str) -> None:
        if broken:
            raise SharedFilesError("shared_url: away; wait")
        real(self, place, name)

    monkeypatch.setattr(SharedFiles, "put", refuse)
    with pytest.raises(SharedFilesError, match="away"):
        run(context)
    assert row_of(context).posts == 90, "every page was paid for and is kept"
    assert row_of(context).state == DataSetState.OPEN
    broken = False
    assert run(context).complete
    assert len(texts(elsewhere(context, "b"))) == 90


def test_what_is_forgotten_leaves_the_store_and_every_copy_that_is_used(
    ours, store: SharedFiles, tmp_path: Path
) -> None:
    context, _ = ours
    run(context)
    reader, third = elsewhere(context, "b"), elsewhere(context, "c")
    assert sum(CANARY in text for text in texts(reader)) == 2
    before = row_of(context).files
    with third.db.transaction() as session:
        forget(session, third.config, [str(FIRST + 4 * 1000), str(FIRST + 51 * 1000)], BY_HAND)
    assert clear_files(third.db, third.config) == 2
    assert CANARY not in at_the_store(store, tmp_path / "scratch")
    assert local(third) == []
    after = row_of(context)
    assert (after.posts, after.dropped["forgotten"]) == (88, 2)
    renewed = [now["edition"] != then["edition"] for now, then in zip(after.files, before, strict=True)]
    assert 0 < sum(renewed) < len(renewed), "what did not change is not sent again"
    assert not any(CANARY in text for text in texts(reader)), "an older copy is not what counts"
    assert CANARY not in "".join(file.read_text() for file in manifest.directory(reader.config).glob("*.json"))


def test_forgetting_waits_for_bytes_that_only_the_gathering_machine_has(ours, monkeypatch: pytest.MonkeyPatch) -> None:
    context, _ = ours

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("app.data.gathering._end", die)
        with pytest.raises(KeyboardInterrupt):
            run(context)
    other = elsewhere(context, "b")
    with other.db.transaction() as session:
        forget(session, other.config, [str(FIRST + 4 * 1000)], BY_HAND)
    with pytest.raises(SharedFilesError, match="gathered last"):
        clear_files(other.db, other.config)
    with other.db.transaction() as session:
        assert session.query(Forgotten).filter(Forgotten.cleared_at.is_(None)).count() == 1
    run(context)
    assert clear_files(other.db, other.config) == 1
    assert not any("old mill" in text for text in texts(context))


def test_a_forgetter_killed_before_its_commit_leaves_what_counts(
    ours, store: SharedFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, _ = ours
    run(context)
    before = row_of(context)
    with context.db.transaction() as session:
        forget(session, context.config, [str(FIRST + 4 * 1000)], BY_HAND)

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # the new edition is at the store, and no row names it
        patch.setattr(clearing.manifest, "export", die)
        with pytest.raises(KeyboardInterrupt):
            clear_files(context.db, context.config)
    assert (row_of(context).files, row_of(context).posts) == (before.files, before.posts)
    assert len(texts(elsewhere(context, "b"))) == 90
    assert clear_files(context.db, context.config) == 1
    assert "old mill" not in at_the_store(store, tmp_path / "scratch")
    data = [name for name in store.below(f"jump_start_files/{BOT}") if "manifest" not in name]
    assert len(data) == len(before.files), "the edition that nobody names is gone"
    assert len(texts(elsewhere(context, "c"))) == 89


def test_x_is_asked_file_by_file_about_what_lies_at_the_store(ours) -> None:
    context, x = ours
    run(context)
    gone = str(FIRST + 10 * 1000)
    known = {item["id"]: item for posts in x.posts.values() for item in posts if item["id"] != gone}
    x.parents = known
    other = elsewhere(context, "b")
    other.config = other.config.model_copy(
        update={"loop": other.config.loop.model_copy(update={"vanished_posts": 400})}
    )
    assert forget_vanished(other.db, other.x, other.config) == 1
    assert row_of(context).posts == 89
    assert local(other) == []


def test_a_jump_start_fetches_what_it_trains_on_and_another_machine_serves_what_it_wrote(
    ours, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiny_model import save_tiny_model  # torch, which the other tests here do without

    from app.learning import sfttrainer
    from app.policy.model import LanguageModel

    context, _ = ours
    run(context)
    model = save_tiny_model(tmp_path_factory.mktemp("model") / "tiny")
    node, serving = (trained_on(elsewhere(context, name), model) for name in ("gpu", "serving"))
    seen: list[int] = []
    real = sfttrainer.train

    def train(job: Any, report: Any) -> Any:
        settle(node.db, node.config)  # as an I/O worker does that shares this directory, in its daily turn
        seen.append(len(local(node)))
        return real(job, report)

    monkeypatch.setattr(sfttrainer, "train", train)
    outcome = jump_start.train(node)
    assert outcome.state == RunState.SUCCEEDED, outcome
    assert seen == [len(row_of(context).files)]
    assert local(node) == []
    with serving.db.transaction() as session:
        pointers = PointerReader(serving.config, checkpoints.base_hash(model)).read(session)
    assert pointers.current.checkpoint_id == outcome.checkpoint_id
    (adapter,) = pointers.current.stack
    assert adapter.is_relative_to(serving.config.model.checkpoint_dir)
    language_model = LanguageModel(serving.config.model)
    language_model.use(pointers.current.stack)


def trained_on(context: BotContext, model: Path) -> BotContext:
    place = Path(context.config.data_dir) / "checkpoints"
    settings = {"hf_repo_id": str(model), "checkpoint_dir": str(place), "device": "cpu", "dtype": "float32"}
    sft = {"max_length": 1024, "batch_size": 8, "held_out_share": 0.2}
    context.config = context.config.model_copy(
        update={
            "model": context.config.model.model_copy(update=settings),
            "sft": context.config.sft.model_copy(update=sft),
        }
    )
    return context


def test_a_new_data_set_is_not_taken_for_the_old_one(ours, store: SharedFiles) -> None:
    context, x = ours
    run(context)
    reader = elsewhere(context, "b")
    assert len(texts(reader)) == 90
    with context.db.transaction() as session:
        manifest.discard(session, context.config)
    assert store.below("jump_start_files") == []
    x.posts = {"7": x.posts["7"][:30], "8": []}
    found = run(context)
    assert len(texts(reader)) == found.posts == 30


def test_files_from_before_there_was_a_store_are_put_there(plant: Plant, bucket: Bucket) -> None:
    context, _ = plant({"7": [plain(number) for number in range(40)]})
    run(context)
    here = local(context)
    context.config = context.config.model_copy(update={"shared_url": bucket.url})
    other = elsewhere(context, "b")
    with pytest.raises(SharedFilesError, match="gathered last"):
        texts(other)
    assert len(texts(context)) == 40
    assert local(context) == here
    run(context)
    assert len(texts(other)) == 40


def test_exports_lie_at_the_store_and_are_cleared_there(ours, store: SharedFiles, tmp_path: Path) -> None:
    context, _ = ours
    post_id = uuid.uuid4()

    def said(x_id: str, author: str) -> QuoteComment:
        return QuoteComment(post_id=post_id, reply_id=x_id, comment=True, time_of_reply=clock.now(), bot_id=BOT,
                            author_id=author, content=f"{CANARY} {author}", fetched_at=clock.now())  # fmt: skip

    both = _export(context.config, post_id, "comments", [said("1", "7"), said("2", "8")])
    alone = _export(context.config, post_id, "quotes", [said("3", "7")])
    assert both == f"engagement/{BOT}/{post_id}/comments.jsonl"
    assert not (Path(context.config.data_dir) / both).exists()
    with context.db.transaction() as session:
        forget(session, context.config, ["7"], BY_HAND)
    other = elsewhere(context, "b")
    clear_files(other.db, other.config)
    assert store.below("engagement") == [both]
    assert alone not in store.below("engagement")
    assert store.get(both, tmp_path / "scratch")
    assert [json.loads(line)["author_id"] for line in (tmp_path / "scratch").read_text().splitlines()] == ["8"]


def test_without_a_store_a_copy_is_the_directory_itself(tmp_path: Path) -> None:
    copy = WorkingCopy(tmp_path, None, "folder", "one")
    entries = [files.FileEntry(10, 1)]
    assert copy.sign([], entries) == copy.replace(entries, {0}) == entries
    copy.deliver(entries, whole=True)
    copy.release(entries)
    copy.tidy(entries)
    copy.discard()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(files.DataFileError, match="has 0 bytes, the database counts 10"):
        copy.bring(entries)
