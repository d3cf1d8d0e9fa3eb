"""The numbered JSON files: appended to, closed at a size, valid JSON after every commit, safe to kill at any moment.

A file is a JSON array with one record a line. Which of its bytes count is not for the file to say: the row of the data
set does, in the same transaction that moves the cursor. The argument is in `docs/jump-start.md`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from app.data.records import Record, decode, encode

OPENING, BETWEEN, CLOSING = b"[\n", b",\n", b"\n]\n"
OFFSET_BITS = 30  # of a position: where in the file; above them is the file's number
CHUNK = 4096


class DataFileError(RuntimeError):
    """A file is not what the database says of it. The message names it and what to do."""


@dataclass(frozen=True)
class FileEntry:
    """How much of a file counts: bytes, without the closing bracket, and posts.

    Attributes:
        edition: which copy wrote it last; empty where machines share no store (`app/data/working_copy.py`).
    """

    bytes: int = 0
    posts: int = 0
    edition: str = ""

    def as_row(self) -> dict[str, Any]:
        """As it stands in `data_sets.files`."""
        return {"bytes": self.bytes, "posts": self.posts} | ({"edition": self.edition} if self.edition else {})


class Kept(NamedTuple):
    """Posts, and the characters of their texts."""

    posts: int
    characters: int


def path_of(directory: Path, number: int) -> Path:
    return directory / f"{number}.json"


class Appender:
    """Adds records behind the bytes that count. Nothing of it counts before the caller has committed `entries`.

    Args:
        entries: the files as the database has them.
        limit: bytes, the closing bracket included, that no file passes.

    Raises:
        DataFileError: a file is shorter than the database says, or missing.
    """

    def __init__(self, directory: Path, entries: Sequence[FileEntry], limit: int) -> None:
        self.directory = directory
        self.entries = list(entries) or [FileEntry()]
        self._limit = limit
        self._touched: set[int] = set()
        self._handles: dict[int, int] = {}
        directory.mkdir(parents=True, exist_ok=True)
        check(directory, entries)
        self._truncate(self._handle(len(self.entries) - 1), self.entries[-1].bytes)

    def append(self, line: bytes) -> int:
        """Write one record; returns its position, for `read_at`."""
        number, entry = len(self.entries) - 1, self.entries[-1]
        before = BETWEEN if entry.posts else OPENING
        if entry.posts and entry.bytes + len(before) + len(line) + len(CLOSING) > self._limit:
            self._close_bracket(number)
            self._touched.add(number)
            self.entries.append(FileEntry())
            number, entry, before = number + 1, self.entries[-1], OPENING
            self._truncate(self._handle(number), 0)
        _write(self._handle(number), before + line, entry.bytes)
        self._touched.add(number)
        self.entries[-1] = replace(entry, bytes=entry.bytes + len(before) + len(line), posts=entry.posts + 1)
        return number << OFFSET_BITS | (entry.bytes + len(before))

    def sync(self) -> list[FileEntry]:
        """Close the brackets and bring everything to the disk; returns the files as they may now be committed."""
        self._close_bracket(len(self.entries) - 1)
        for number in sorted(self._touched | {len(self.entries) - 1}):
            os.fsync(self._handle(number))
        sync_directory(self.directory)
        return self.entries

    def read_at(self, position: int) -> Record | None:
        """The record at a position."""
        number, offset = position >> OFFSET_BITS, position & ((1 << OFFSET_BITS) - 1)
        line = bytearray()
        while b"\n" not in line:
            chunk = os.pread(self._handle(number), CHUNK, offset + len(line))
            line += chunk
            if not chunk:
                break
        return decode(bytes(line.split(b"\n", 1)[0]).removesuffix(b","))

    def _close_bracket(self, number: int) -> None:
        closing = CLOSING if self.entries[number].posts else b"[]\n"
        _write(self._handle(number), closing, self.entries[number].bytes)

    def _handle(self, number: int) -> int:
        if number not in self._handles:
            self._handles[number] = os.open(path_of(self.directory, number), os.O_RDWR | os.O_CREAT, 0o644)
        return self._handles[number]

    @staticmethod
    def _truncate(handle: int, length: int) -> None:
        os.ftruncate(handle, length)

    def close(self) -> None:
        for handle in self._handles.values():
            os.close(handle)
        self._handles.clear()

    def __enter__(self) -> Appender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check(directory: Path, entries: Sequence[FileEntry]) -> None:
    """Make sure that every byte that counts is there.

    Raises:
        DataFileError: it is not.
    """
    for number, entry in enumerate(entries):
        file = path_of(directory, number)
        size = file.stat().st_size if file.exists() else 0
        if size < entry.bytes:
            raise DataFileError(
                f"{file} has {size} bytes, the database counts {entry.bytes}; restore the file, or begin anew with "
                "`explorer data-set --fresh`"
            )


def repair(directory: Path, entries: Sequence[FileEntry], limit: int) -> None:
    """Cut off what a killed process wrote and never committed, and close the brackets again."""
    with Appender(directory, entries, limit) as appender:
        appender.sync()
    number = max(1, len(entries))
    while path_of(directory, number).exists():
        path_of(directory, number).unlink()
        number += 1


def positions(directory: Path, entries: Sequence[FileEntry], since: int = 0) -> Iterator[tuple[int, Record]]:
    """The records that count with their positions, in order, without those forgotten; memory stays flat.

    Args:
        since: position from which to begin: that of a record, or of the end of those read before.
    """
    first, skip = since >> OFFSET_BITS, since & ((1 << OFFSET_BITS) - 1)
    for number in range(first, len(entries)):
        offset = max(skip if number == first else 0, len(OPENING))
        if offset >= entries[number].bytes:
            continue
        with path_of(directory, number).open("rb") as file:
            file.seek(offset)
            for line in file:
                if offset >= entries[number].bytes:
                    break
                plain = line.strip().removesuffix(b",")
                record = decode(plain) if plain else None
                if record is not None:
                    yield number << OFFSET_BITS | offset, record
                offset += len(line)


def records(directory: Path, entries: Sequence[FileEntry]) -> Iterator[Record]:
    """The records that count, in order, without those forgotten."""
    return (record for _, record in positions(directory, entries))


def end_of(entries: Sequence[FileEntry]) -> int:
    """The position behind the last record that counts, its separator included."""
    if not entries or not entries[-1].posts:
        return max(0, len(entries) - 1) << OFFSET_BITS
    return (len(entries) - 1) << OFFSET_BITS | (entries[-1].bytes + len(BETWEEN))


def rewrite(
    directory: Path,
    entries: Sequence[FileEntry],
    change: Callable[[Record], Record | None],
    changed_files: set[int] | None = None,
) -> Kept:
    """Change records in place, padded with spaces, so that nothing moves and each file stays valid JSON.

    Args:
        change: gives a record as it is to stand, not longer than it was; None removes it.
        changed_files: gets the numbers of the files that are not what they were.

    Returns:
        What is left. Whoever was killed does it again.
    """
    posts = characters = 0
    for number in range(len(entries)):
        with path_of(directory, number).open("r+b") as file:
            for position, record in positions(directory, entries[: number + 1], number << OFFSET_BITS):
                changed = change(record)
                if changed != record:
                    if changed_files is not None:
                        changed_files.add(number)
                    _overwrite(file.fileno(), position & ((1 << OFFSET_BITS) - 1), encode(record), changed)
                if changed is not None:
                    posts, characters = posts + 1, characters + len(changed.text)
            os.fsync(file.fileno())
    return Kept(posts, characters)


def _overwrite(handle: int, offset: int, was: bytes, changed: Record | None) -> None:
    line = b"null" if changed is None else encode(changed)
    if len(line) > len(was):
        raise ValueError(f"a record of {len(was)} bytes cannot become one of {len(line)}")
    _write(handle, line.ljust(len(was)), offset)


def _write(handle: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(handle, data, offset)
        data, offset = data[written:], offset + written


def sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
