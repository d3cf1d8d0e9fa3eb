"""Files that several machines share, at the URL of `shared_url`: S3, or whatever else fsspec speaks to.

Such a store has no rename and no append: an object is put whole, or not at all. What makes several objects one thing is
therefore for the caller to order: the one that the others are nothing without is put last and removed first. Nothing
here imports torch, and what a store needs is imported when it is first asked.

Credentials are the store's own affair and come from the environment (`AWS_…` for S3), never from the URL.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from app.config import VibeBotConfig
from app.loading import ConfigError, WrongSetting

SETTING = "shared_url"
# They have no folders. To ask them for one could make the bucket, under a name that was a slip of the pen.
OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss"})
# What a store says of the trouble, by the name of its exception or in its words, and what to do.
REMEDIES = (
    ("bucket does not exist", "make the bucket, or correct its name"),
    ("NoCredentials", "put AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY into the environment"),
    ("PermissionError", "let the key of the environment (AWS_ACCESS_KEY_ID) list, read, write and delete below it"),
    ("Connect", "correct AWS_ENDPOINT_URL, or the way there"),
    ("Timeout", "correct AWS_ENDPOINT_URL, or the way there"),
    ("ImportError", "install what it needs; for S3 that is the extra `s3`"),
    ("Protocol not known", "write it as s3://BUCKET/FOLDER, or as another URL that fsspec knows"),
)


class SharedFilesError(ConfigError):
    """The store does not do what it is asked. The message names `shared_url`, its value and what to do."""


class SharedFiles:
    """A folder at a store. Names are relative to it, with `/` between their parts.

    Raises:
        SharedFilesError: of every method: the store cannot be reached, or refuses.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._to_put: dict[str, int] = {}
        with self._told("open"):
            from fsspec.core import url_to_fs

            self._fs, self._root = self._open(url_to_fs)
        protocols = set(_protocols(self._fs))
        self._is_local = "file" in protocols
        self._has_folders = not protocols & OBJECT_STORES

    def _open(self, url_to_fs: Any) -> tuple[Any, str]:
        # A listing that is kept would not show what another machine has put there since, and a client that is kept by
        # fsspec for the whole process would be one with the credentials of whoever asked first.
        options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
        # By itself it holds ten parts of 50 MB at once, more memory than a pod of an I/O worker has.
        if self.url.partition(":")[0] in {"s3", "s3a"}:
            options["max_concurrency"] = 1
            self._to_put = {"chunksize": 16 * 2**20}
        found, root = url_to_fs(self.url, **options)
        return found, str(root).rstrip("/")

    def url_of(self, name: str) -> str:
        """Where a file is, as it may be shown to a person."""
        return f"{self.url}/{name}"

    def put(self, local: Path, name: str) -> None:
        """Put a file there, in place of the one of that name."""
        with self._told(f"write {name}"):
            path = self._path(name)
            if self._is_local:  # a mounted volume: the one kind of store where half a file could be seen
                self._put_aside(local, Path(path))
            else:
                if self._has_folders:
                    self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
                self._fs.put_file(str(local), path, **self._to_put)

    def _put_aside(self, local: Path, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}"
        try:
            self._fs.put_file(str(local), str(aside))
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)

    def get(self, name: str, local: Path) -> bool:
        """Fetch a file; False if there is none. A half-fetched one is left behind where this raises."""
        with self._told(f"read {name}"):
            try:
                self._fs.get_file(self._path(name), str(local))
            except FileNotFoundError as error:
                _raise_without_bucket(error)
                return False
        return local.is_file()

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if there is none."""
        with self._told(f"look at {name}"):
            try:
                info = self._fs.info(self._path(name))
            except FileNotFoundError as error:
                _raise_without_bucket(error)
                return None
        return int(info["size"]) if info["type"] == "file" else None

    def names(self, folder: str) -> list[str]:
        """The names in a folder, without those in folders of it; none where there is no such folder."""
        return self._listing(folder, "file")

    def folders(self, folder: str) -> list[str]:
        """The names of the folders in a folder."""
        return self._listing(folder, "directory")

    def below(self, folder: str) -> list[str]:
        """Every file in a folder and in those in it, by its whole name."""
        with self._told(f"list {folder}"):
            found = self._fs.find(self._path(folder))
        if not found:
            return self.names(folder)  # fsspec finds nothing in a bucket that is not there, either; this tells
        root = self._root.lstrip("/") + "/"
        names = (str(name).lstrip("/").removeprefix(root) for name in found)
        return sorted(name for name in names if not name.rpartition("/")[2].startswith("."))

    def _listing(self, folder: str, kind: str) -> list[str]:
        with self._told(f"list {folder}"):
            try:
                entries = self._fs.ls(self._path(folder), detail=True)
            except FileNotFoundError as error:
                _raise_without_bucket(error)
                return []
        # Some stores list the folder itself, and a half-put file of a volume begins with a dot.
        inside = self._path(folder).lstrip("/") + "/"
        found = (str(e["name"]).rstrip("/").lstrip("/") for e in entries if e["type"] == kind)
        rest = (name.removeprefix(inside) for name in found if name.startswith(inside))
        return sorted(name for name in rest if name and not name.startswith("."))

    def remove(self, name: str) -> None:
        """Remove a file, if there is one."""
        with self._told(f"remove {name}"):
            try:
                self._fs.rm_file(self._path(name))
            except FileNotFoundError as error:
                _raise_without_bucket(error)

    def try_out(self, scratch: Path) -> None:
        """Write, list, read and delete a file of no meaning.

        Args:
            scratch: a directory for the local side of it.
        """
        name, sent, back = f"probe-{uuid.uuid4().hex}", scratch / "sent", scratch / "back"
        sent.write_bytes(name.encode())
        self.put(sent, f"probes/{name}")
        try:
            whole = self.names("probes").count(name) and self.get(f"probes/{name}", back)
            if not whole or back.read_bytes() != name.encode():
                raise self._error("read what was just written", "something else came back", "look at the store")
        finally:
            self.remove(f"probes/{name}")
        if self.size(f"probes/{name}") is not None:
            raise self._error("delete", "what was deleted is still there", "let the key delete below it")

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _told(self, action: str) -> Iterator[None]:
        try:
            yield
        except ConfigError:
            raise
        # Every store has exceptions of its own; whichever it is, it is told with the setting that names the store.
        except Exception as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())
            remedy = next((todo for sign, todo in REMEDIES if sign in said), "look at the store and at the way there")
            raise self._error(action, said, remedy) from error

    def _error(self, action: str, said: str, remedy: str) -> SharedFilesError:
        wrong = WrongSetting(SETTING, f"got {self.url}, and cannot {action} there ({said})", remedy)
        return SharedFilesError(str(wrong), [wrong])


def shared_files(config: VibeBotConfig) -> SharedFiles | None:
    """The store of the config; None where the local directories themselves are what is shared.

    Raises:
        SharedFilesError: fsspec does not know such a URL, or lacks what it needs for it.
    """
    return _opened(config.shared_url) if config.shared_url else None


@cache
def _opened(url: str) -> SharedFiles:
    return SharedFiles(url)


def _protocols(filesystem: Any) -> tuple[str, ...]:
    named = filesystem.protocol
    return (named,) if isinstance(named, str) else tuple(named)


def _raise_without_bucket(error: FileNotFoundError) -> None:
    """A bucket that is not there is a wrong setting, and no missing file."""
    if "bucket does not exist" in str(error):
        raise error
