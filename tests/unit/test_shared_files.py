"""What machines share at a URL: each kind of store does the same, and what is wrong with one is told by its setting."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from s3_server import S3Server

from app.config import VibeBotConfig
from app.loading import ConfigError, parse_config
from app.shared_files import SharedFiles, SharedFilesError, shared_files


@pytest.fixture
def store(shared_url: str) -> SharedFiles:
    return SharedFiles(shared_url)


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_what_is_put_is_there_for_another(store: SharedFiles, tmp_path: Path) -> None:
    other = SharedFiles(store.url + "/")
    store.put(written(tmp_path / "a", b"one"), "folder/a.json")
    store.put(written(tmp_path / "b", b"two" * 1000), "folder/deep/b.json")
    assert other.names("folder") == ["a.json"]
    assert other.folders("folder") == ["deep"]
    assert other.below("folder") == ["folder/a.json", "folder/deep/b.json"]
    assert (other.size("folder/a.json"), other.size("folder/deep/b.json")) == (3, 3000)
    assert other.get("folder/deep/b.json", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"two" * 1000
    store.put(written(tmp_path / "a", b"three"), "folder/a.json")
    assert other.get("folder/a.json", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"three"
    assert other.url_of("folder/a.json") == f"{store.url}/folder/a.json"


def test_what_is_not_there_is_no_trouble(store: SharedFiles, tmp_path: Path) -> None:
    assert store.names("nowhere") == store.folders("nowhere") == store.below("nowhere") == []
    assert store.size("nowhere/x") is None
    assert not store.get("nowhere/x", tmp_path / "x")
    assert not (tmp_path / "x").exists()
    store.remove("nowhere/x")


def test_what_is_removed_is_gone(store: SharedFiles, tmp_path: Path) -> None:
    store.put(written(tmp_path / "a", b"one"), "folder/a")
    store.put(tmp_path / "a", "folder/b")
    store.remove("folder/a")
    assert SharedFiles(store.url).names("folder") == ["b"]
    assert store.size("folder/a") is None


def test_trying_out_leaves_nothing(store: SharedFiles, tmp_path: Path) -> None:
    store.try_out(tmp_path)
    assert store.below("probes") == []


def test_a_store_that_is_no_place_to_read_back_from_is_found(
    store: SharedFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a cache in between that gives an older object."""
    monkeypatch.setattr(store, "get", lambda _, local: bool(local.write_bytes(b"older")))
    with pytest.raises(SharedFilesError, match=r"cannot read what was just written .*something else came back"):
        store.try_out(tmp_path)
    assert store.below("probes") == []


def test_a_reader_of_a_volume_sees_a_file_whole_or_not_at_all(tmp_path: Path) -> None:
    url, done = f"file://{tmp_path / 'volume'}", threading.Event()
    files = [written(tmp_path / letter, letter.encode() * 4_000_000) for letter in "ab"]

    def write() -> None:
        writer = SharedFiles(url)
        for turn in range(30):
            writer.put(files[turn % 2], "one")
        done.set()

    SharedFiles(url).put(files[0], "one")
    thread = threading.Thread(target=write)
    thread.start()
    seen = set()
    while not done.is_set():
        seen.add((tmp_path / "volume/one").read_bytes())
    thread.join()
    assert seen <= {file.read_bytes() for file in files}
    assert [path.name for path in (tmp_path / "volume").iterdir()] == ["one"]


def test_without_the_setting_there_is_no_store(config: VibeBotConfig, shared_url: str) -> None:
    assert shared_files(config) is None
    assert parse_config(config.model_dump(mode="json")) == config
    mine = config.model_copy(update={"shared_url": shared_url})
    store = shared_files(mine)
    assert store is not None
    assert store.url == shared_url
    assert shared_files(mine) is store


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3://AKIA:secret-key@bucket/explorer", r"got 's3://AKIA:\*\*\*@bucket/explorer'"),
        ("s3://bucket/explorer?secret=secret-key", r"got 's3://bucket/explorer\?\*\*\*'"),
        ("/a/folder", "write it as s3://BUCKET/FOLDER"),
        ("s3://", "write it as s3://BUCKET/FOLDER"),
        ("", "at least 1 character"),
    ],
)
def test_a_url_that_cannot_be_one_is_refused_without_its_secrets(config: VibeBotConfig, url: str, says: str) -> None:
    raw = config.model_dump(mode="json") | {"shared_url": url}
    with pytest.raises(ConfigError, match=says) as refused:
        parse_config(raw)
    assert "shared_url" in str(refused.value)
    assert "secret-key" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "says"),
    [("nothing://bucket/x", "write it as s3://BUCKET/FOLDER"), ("gs://bucket/x", "install what it needs")],
)
def test_a_store_that_cannot_be_opened(url: str, says: str) -> None:
    with pytest.raises(SharedFilesError, match=rf"^shared_url: got {url}, and cannot open .*{says}"):
        SharedFiles(url)


def test_a_bucket_that_is_not_there(s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    store = SharedFiles("s3://never-made/explorer")
    for attempt in (
        lambda: store.put(written(tmp_path / "a", b"x"), "a"),
        lambda: store.get("a", tmp_path / "b"),
        lambda: store.names("a"),
        lambda: store.below("a"),
    ):
        with pytest.raises(SharedFilesError, match=r"^shared_url: got s3://never-made/explorer.*make the bucket"):
            attempt()


def test_a_key_that_may_nothing(s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = s3_server.new_bucket()
    with s3_server.a_key_that_may_nothing() as env:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        store = SharedFiles(bucket.url)
        for attempt in (
            lambda: store.put(written(tmp_path / "a", b"x"), "a"),
            lambda: store.get("a", tmp_path / "b"),
            lambda: store.names("a"),
            lambda: store.remove("a"),
        ):
            with pytest.raises(SharedFilesError, match=rf"^shared_url: got {bucket.url}.*let the key of the") as told:
                attempt()
            assert env["AWS_SECRET_ACCESS_KEY"] not in str(told.value)


def test_no_key_and_nobody_there(bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(SharedFilesError, match="correct AWS_ENDPOINT_URL"):
        SharedFiles(bucket.url).names("a")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(SharedFilesError, match="put AWS_ACCESS_KEY_ID"):
        SharedFiles(bucket.url).names("a")
