"""The files of the data set on one machine, where the store of `shared_url` has them for all (`docs/jump-start.md`).

Appending needs one place, so whoever gathers appends here and puts the files there: a closed one when it is closed, the
open one when gathering ends or is put off. Which content of a file counts is, as ever, for the row of the data set to
say: beside bytes and posts each file there has an edition, which names the copy that wrote it last. A copy that lacks
it fetches it, and says so if the store lacks it too. Callers hold the lock of the row, but for reading.

Without a store all of this is nothing: the directory itself is what machines share.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from app.data import files
from app.data.files import FileEntry, path_of
from app.data.records import Record
from app.loading import ConfigError, WrongSetting
from app.shared_files import SETTING, SharedFiles, SharedFilesError

log = structlog.get_logger()

STATE = ".copy.json"


class WorkingCopy:
    """The files of one data set in one directory.

    Args:
        store: None where the directory itself is shared.
        folder: of the bot's data sets, at the store.
        data_set: names this one among them, and is another's after `explorer data-set --fresh`.
    """

    def __init__(self, place: Path, store: SharedFiles | None, folder: str, data_set: str) -> None:
        self._place, self._store = place, store
        self._bot, self._folder, self._data_set = folder, f"{folder}/{data_set}", data_set

    def bring(self, entries: Sequence[FileEntry]) -> None:
        """Make sure that every byte that counts is here.

        Raises:
            SharedFilesError: the store lacks some, or cannot be asked.
            DataFileError: there is no store, and a file is shorter than it should be.
        """
        if self._store is not None:
            self._state()  # what lies here of another data set goes before anything is appended
        for number in range(len(entries)):
            self._bring(number, entries[number])
        files.check(self._place, entries)

    def positions(self, entries: Sequence[FileEntry], since: int = 0) -> Iterator[tuple[int, Record]]:
        """As `files.positions`, fetching each file when it is its turn.

        Raises:
            SharedFilesError, DataFileError: as `bring`.
        """
        if self._store is None:
            files.check(self._place, entries)
        for number in range(since >> files.OFFSET_BITS, len(entries)):
            self._bring(number, entries[number])
            start = max(since, number << files.OFFSET_BITS)
            yield from files.positions(self._place, entries[: number + 1], start)

    def sign(self, before: Sequence[FileEntry], entries: Sequence[FileEntry]) -> list[FileEntry]:
        """The entries after bytes were appended here, for the row: what changed is this copy's from now on."""
        if self._store is None:
            return list(entries)
        mine = str(self._state()["copy"])
        return [
            entry if number < len(before) and entry == before[number] else self._signed(entry, mine)
            for number, entry in enumerate(entries)
        ]

    def deliver(self, entries: Sequence[FileEntry], *, whole: bool) -> None:
        """Put there what the store lacks.

        Args:
            whole: the open file too: gathering has ended or is put off. Otherwise a store that does not answer is no
                trouble: what is closed and was not delivered is delivered the next time.

        Raises:
            SharedFilesError: the store does not take it; only where `whole`.
        """
        if self._store is None:
            return
        try:
            for number, entry in enumerate(entries if whole else entries[:-1]):
                self._put(number, entry)
        except ConfigError as error:
            if whole:
                raise
            log.warning("data_set.not_delivered", reason=str(error))

    def replace(self, entries: Sequence[FileEntry], changed: Collection[int]) -> list[FileEntry]:
        """Put there files that were rewritten here, as new editions; returns the entries for the row.

        The old editions stay until `tidy`, because the row names them until it is committed.
        """
        if self._store is None:
            return list(entries)
        mine = str(self._state()["copy"])
        renewed = [
            self._signed(entry, mine, anew=True) if number in changed else entry for number, entry in enumerate(entries)
        ]
        self.deliver(renewed, whole=True)
        return renewed

    def tidy(self, entries: Sequence[FileEntry]) -> None:
        """Remove at the store what the row does not name, once the store has what it names instead."""
        if self._store is None:
            return
        named = {_name(number, entry) for number, entry in enumerate(entries)}
        there = set(self._store.names(self._folder))
        for name in sorted(there - named - {"manifest.json"}):
            number = int(name.partition("-")[0]) if name.partition("-")[0].isdigit() else -1
            if not 0 <= number < len(entries) or _name(number, entries[number]) in there:
                self._store.remove(f"{self._folder}/{name}")
        for other in self._store.folders(self._bot):
            if other != self._data_set:
                self._remove_all(f"{self._bot}/{other}")

    def release(self, entries: Sequence[FileEntry]) -> None:
        """Remove the files here, as far as the store has them: forgotten words must not lie about in copies."""
        if self._store is None:
            return
        state = self._state()
        for number, entry in enumerate(entries):
            if state["same"].get(str(number)) == _mark(entry):
                path_of(self._place, number).unlink(missing_ok=True)
                del state["same"][str(number)]
        self._write(state)

    def discard(self) -> None:
        """Remove everything at the store that is of this bot's data sets."""
        if self._store is not None:
            for data_set in self._store.folders(self._bot):
                self._remove_all(f"{self._bot}/{data_set}")

    def put_manifest(self, path: Path) -> None:
        if self._store is not None:
            self._store.put(path, f"{self._folder}/manifest.json")

    def _remove_all(self, folder: str) -> None:
        assert self._store is not None  # noqa: S101 - callers have looked
        for name in self._store.names(folder):
            self._store.remove(f"{folder}/{name}")

    def _bring(self, number: int, entry: FileEntry) -> None:
        if self._store is None or not entry.bytes:
            return
        state, file = self._state(), path_of(self._place, number)
        if self._is_here(number, entry, state):
            return
        name = self._require(number, entry)
        aside = file.with_suffix(f".{uuid.uuid4().hex[:8]}.part")
        try:
            self._store.get(name, aside)
            if _size(aside) < entry.bytes:  # removed since, by whoever forgets
                raise self._lacking(file, name, _size(aside), entry)
            aside.replace(file)
        finally:
            aside.unlink(missing_ok=True)
        state["same"][str(number)] = _mark(entry)
        self._write(state)

    def _is_here(self, number: int, entry: FileEntry, state: dict[str, Any]) -> bool:
        """Whether the file is what the row says: written here last, or fetched as it is."""
        written_here = not entry.edition or entry.edition.startswith(state["copy"])
        known = written_here or state["same"].get(str(number)) == _mark(entry)
        return known and _size(path_of(self._place, number)) >= entry.bytes

    def _require(self, number: int, entry: FileEntry) -> str:
        """The name of a file at the store, which must have every byte of it that counts."""
        assert self._store is not None  # noqa: S101 - callers have looked
        name = f"{self._folder}/{_name(number, entry)}"
        there = self._store.size(name) or 0
        if there < entry.bytes:
            raise self._lacking(path_of(self._place, number), name, there, entry)
        return name

    def _lacking(self, file: Path, name: str, there: int, entry: FileEntry) -> SharedFilesError:
        assert self._store is not None  # noqa: S101 - it is what lacks something
        problem = (
            f"got {self._store.url}, where {name} has {there} bytes, the database counts {entry.bytes}, and {file} "
            "here is no copy of them"
        )
        remedy = (
            "run `explorer data-set` on the machine that gathered last, which has the rest and puts it there, or begin "
            "anew with `explorer data-set --fresh`"
        )
        wrong = WrongSetting(SETTING, problem, remedy)
        return SharedFilesError(str(wrong), [wrong])

    def _put(self, number: int, entry: FileEntry) -> None:
        assert self._store is not None  # noqa: S101 - callers have looked
        state = self._state()
        if entry.bytes and state["same"].get(str(number)) != _mark(entry):
            if not self._is_here(number, entry, state):
                self._require(number, entry)  # written by another copy, whose affair it is
                return
            self._store.put(path_of(self._place, number), f"{self._folder}/{_name(number, entry)}")
            state["same"][str(number)] = _mark(entry)
            self._write(state)

    @staticmethod
    def _signed(entry: FileEntry, mine: str, *, anew: bool = False) -> FileEntry:
        if entry.edition.startswith(mine) and not anew:
            return entry
        return replace(entry, edition=f"{mine}.{uuid.uuid4().hex[:8]}")

    def _state(self) -> dict[str, Any]:
        """Which copy this is, and which files are the same here and at the store.

        What lies here of another data set goes first.
        """
        file = self._place / STATE
        state: dict[str, Any] = json.loads(file.read_bytes()) if file.exists() else {}
        if state.get("data_set") != self._data_set:
            for old in self._place.glob("[0-9]*.json") if state else ():
                old.unlink()
            state = {"copy": state.get("copy", uuid.uuid4().hex), "data_set": self._data_set, "same": {}}
            self._write(state)
        return state

    def _write(self, state: dict[str, Any]) -> None:
        self._place.mkdir(parents=True, exist_ok=True)
        aside = self._place / f"{STATE}.{uuid.uuid4().hex[:8]}.part"
        with aside.open("w", encoding="utf-8") as file:
            json.dump(state, file)
            file.flush()
            os.fsync(file.fileno())  # a copy that a power cut made forget its name would not know its own files
        aside.replace(self._place / STATE)
        files.sync_directory(self._place)


def _name(number: int, entry: FileEntry) -> str:
    return f"{number}-{entry.edition or 'first'}.json"


def _mark(entry: FileEntry) -> list[Any]:
    return [entry.edition, entry.bytes]


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
