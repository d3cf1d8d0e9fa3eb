"""Two machines with directories of their own, one database and one store: what one writes, the other serves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from s3_server import Bucket, S3Server

from app import leases
from app.config import VibeBotConfig
from app.policy import checkpoints, registry
from app.policy.checkpoints import (
    AdapterRef,
    CheckpointError,
    DamagedCheckpointError,
    Manifest,
    UnsafeCheckpointError,
    verify,
)
from app.policy.copies import FETCHING, fetch
from app.policy.pointers import PointerReader
from app.policy.roots import SharedRoot, root_of
from app.shared_files import SharedFiles
from dbs.models import TrainingRun
from dbs.states import CheckpointKind, RunKind, RunState
from tests.learning.test_checkpoints import ADAPTER, STATE, current, manifest, promote
from tests.learning.world import BASE_HASH, BOT, NOW, World, config


@dataclass
class Machine:
    config: VibeBotConfig
    root: SharedRoot

    @property
    def home(self) -> Path:
        return self.root.local / BOT

    def has(self) -> set[str]:
        return {entry.name for entry in self.home.iterdir()} if self.home.is_dir() else set()


def machine(place: Path, url: str) -> Machine:
    mine = config(place).model_copy(update={"shared_url": url})
    root = root_of(mine)
    assert isinstance(root, SharedRoot)
    return Machine(mine, root)


@pytest.fixture
def world(database, bot) -> World:
    return World(database)


@pytest.fixture(params=["file", "s3"])
def shared_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of the kinds of store the two that several processes can have in common."""
    return str(request.getfixturevalue("bucket").url) if request.param == "s3" else f"file://{tmp_path / 'volume'}"


@pytest.fixture
def ours(tmp_path: Path, shared_url: str) -> Machine:
    return machine(tmp_path / "a", shared_url)


@pytest.fixture
def theirs(tmp_path: Path, shared_url: str) -> Machine:
    return machine(tmp_path / "b", shared_url)


@pytest.fixture
def store(shared_url: str) -> SharedFiles:
    return SharedFiles(shared_url)


def add(world: World, at: Machine, parent: uuid.UUID, **changes) -> uuid.UUID:
    _, written = checkpoints.write(at.root, STATE, ADAPTER, manifest(parent_id=parent, **changes))
    with world.database.transaction() as session:
        return registry.commit(session, written).checkpoint_id


def folder(checkpoint_id: uuid.UUID) -> str:
    return f"checkpoints/{BOT}/{checkpoint_id}"


def spoil(store: SharedFiles, name: str, scratch: Path) -> None:
    """The same file with another last byte."""
    assert store.get(name, scratch)
    scratch.write_bytes(scratch.read_bytes()[:-1] + b"~")
    store.put(scratch, name)


def stack_of(world: World, at: Machine, checkpoint_id: uuid.UUID) -> registry.Stack:
    return registry.stack(at.root, world.checkpoint(checkpoint_id))


def test_what_one_machine_promotes_another_serves(world, ours, theirs):
    sft_id = uuid.uuid4()
    sft = add(world, ours, world.base_id, kind=CheckpointKind.SFT, checkpoint_id=sft_id,
              stack=[AdapterRef(name="reference", checkpoint_id=sft_id)])  # fmt: skip
    ppo_id = uuid.uuid4()
    ppo = add(world, ours, sft, checkpoint_id=ppo_id, stack=[
        AdapterRef(name="reference", checkpoint_id=sft), AdapterRef(name="policy", checkpoint_id=ppo_id)])  # fmt: skip
    promote(world, ours.root, ppo)
    reader = PointerReader(theirs.config, BASE_HASH)
    for _ in range(2):  # fetched the first time, there the second
        with world.database.transaction() as session:
            pointers = reader.read(session)
        assert pointers.current.checkpoint_id == ppo
        assert [path.parent for path in pointers.current.stack] == [theirs.home] * 2
        assert [verify(path, BASE_HASH, BOT).kind for path in pointers.current.stack] == ["sft", "ppo"]
    assert theirs.has() == {str(sft), str(ppo)}
    assert list((theirs.root.local / FETCHING).iterdir()) == []


def test_a_machine_that_has_none_promotes_and_goes_back(world, ours, theirs):
    first = add(world, ours, world.base_id)
    second = add(world, ours, first)
    promote(world, theirs.root, first)
    promote(world, theirs.root, second)
    assert theirs.has() == {str(first), str(second)}
    shutil.rmtree(theirs.home)
    with world.database.transaction() as session:
        assert registry.rollback(session, theirs.root, BOT).checkpoint_id == first
    assert theirs.has() == {str(first)}


@pytest.mark.parametrize(
    ("break_it", "error", "says"),
    [
        (lambda s, f, p: spoil(s, f"{f}/adapter_model.safetensors", p), DamagedCheckpointError, "not the file that"),
        (lambda s, f, p: s.remove(f"{f}/adapter_model.safetensors"), DamagedCheckpointError, "lacks adapter_model"),
        (lambda s, f, p: s.remove(f"{f}/manifest.json"), DamagedCheckpointError, "is not there; restore it"),
        (lambda s, f, p: spoil(s, f"{f}/manifest.json", p), DamagedCheckpointError, "manifest.json"),
        (lambda s, f, p: (p.write_bytes(b"\x80\x04"), s.put(p, f"{f}/x.bin")), UnsafeCheckpointError, "x.bin"),
        (lambda s, f, p: (p.write_text("x"), s.put(p, f"{f}/notes.txt")), DamagedCheckpointError, "notes.txt"),
    ],
)
def test_what_is_damaged_at_the_store_is_refused(world, ours, theirs, store, tmp_path, break_it, error, says):
    candidate = add(world, ours, world.base_id)
    break_it(store, folder(candidate), tmp_path / "scratch")
    with pytest.raises(error, match=says) as told:
        promote(world, theirs.root, candidate)
    assert FETCHING not in str(told.value), "a place that is gone by now helps nobody"
    assert current(world) == world.base_id
    assert theirs.has() == set()


def test_a_store_that_does_not_take_it_leaves_nothing(tmp_path, s3_server: S3Server, monkeypatch):
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    lost = machine(tmp_path, "s3://never-made/explorer")
    with pytest.raises(CheckpointError, match=r"shared_url: got s3://never-made/explorer.*make the bucket"):
        checkpoints.write(lost.root, STATE, ADAPTER, manifest())
    assert lost.has() == set()
    with pytest.raises(CheckpointError, match="shared_url"):
        fetch(lost.root, BOT, uuid.uuid4())


WRITER = """
import sys, os, signal
from app.policy import checkpoints
from tests.learning.test_shared_checkpoints import ADAPTER, STATE, Path, machine, manifest
from app.shared_files import SharedFiles
place, url, left = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
put = SharedFiles.put
def put_some(self, local, name):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    put(self, local, name)
SharedFiles.put = put_some
checkpoints.write(machine(place, url).root, STATE, ADAPTER, manifest())
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("files", [0, 1, 2, 3])
def test_a_writer_killed_before_it_commits_leaves_nothing_that_counts(world, bucket: Bucket, tmp_path, files):
    """Killed when so many files are at the store: none, some, all but the manifest, all."""
    here, there = machine(tmp_path / "a", bucket.url), machine(tmp_path / "b", bucket.url)
    store = SharedFiles(bucket.url)
    kept = add(world, here, world.base_id)
    promote(world, here.root, kept)
    done = subprocess.run(
        [sys.executable, "-c", WRITER, tmp_path / "a", bucket.url, str(files)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": ".:tests"},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert len(store.below(f"checkpoints/{BOT}")) == 3 + files
    (orphan,) = set(here.root.ids(BOT)) - {kept} or {uuid.uuid4()}
    assert here.root.has(BOT, orphan) == (files == 3)
    assert current(world) == kept
    if files < 3:
        assert not fetch(there.root, BOT, orphan).exists(), "without its manifest it is none"
    with leases.hold(world.database, BOT, "training", 60), world.database.transaction() as session:
        registry.sweep(session, there.root, BOT)
        registry.sweep(session, here.root, BOT)
    assert here.has() == {str(kept)}
    # The one that was whole was of no run that this database knows, and may be another deployment's.
    assert set(here.root.ids(BOT)) == ({kept, orphan} if files == 3 else {kept})


def test_sweeping_removes_a_dead_run_s_at_the_store_and_not_a_stranger_s(world, ours, store):
    run_id = uuid.uuid4()
    with world.database.transaction() as session:
        session.add(TrainingRun(run_id=run_id, bot_id=BOT, kind=RunKind.PPO, state=RunState.FAILED, fence=1,
                                started_at=NOW))  # fmt: skip
    kept = add(world, ours, world.base_id)
    _, of_dead = checkpoints.write(ours.root, STATE, ADAPTER, manifest(run_id=run_id))
    _, of_stranger = checkpoints.write(ours.root, STATE, ADAPTER, manifest(run_id=uuid.uuid4()))
    with world.database.transaction() as session:
        gone = registry.sweep(session, ours.root, BOT)
    assert set(gone) == {str(of_dead.checkpoint_id), str(of_stranger.checkpoint_id)}
    assert ours.has() == {str(kept)}
    assert set(ours.root.ids(BOT)) == {kept, of_stranger.checkpoint_id}


def test_what_was_written_before_there_was_a_store_is_put_there(world, ours, theirs, store):
    """The setting is added to a bot that has run without it, and somebody deletes a manifest by mistake."""
    older, spoilt = (add(world, Machine(ours.config, ours.root.local), world.base_id) for _ in range(2))
    newer = add(world, ours, older)
    store.remove(f"{folder(newer)}/manifest.json")
    (ours.home / str(spoilt) / "adapter_model.safetensors").write_bytes(b"")
    with world.database.transaction() as session:
        registry.sweep(session, ours.root, BOT)
    assert {one: ours.root.has(BOT, one) for one in (older, newer, spoilt)} == {older: True, newer: True, spoilt: False}
    promote(world, theirs.root, older)
    promote(world, theirs.root, newer)


def test_pruning_removes_at_the_store_and_in_every_copy(world, ours, theirs):
    served, spare = add(world, ours, world.base_id), add(world, ours, world.base_id)
    promote(world, ours.root, served)
    stack_of(world, theirs, spare)
    assert theirs.has() == {str(spare)}
    with world.database.transaction() as session:
        assert registry.prune(session, ours.root, BOT, keep=0) == [spare]
        assert ours.root.has(BOT, spare), "nothing goes before the commit"
    assert ours.has() == {str(served)}
    assert ours.root.ids(BOT) == [served]
    with pytest.raises(CheckpointError, match="pruned"):
        promote(world, theirs.root, spare)
    with world.database.transaction() as session:
        assert registry.prune(session, theirs.root, BOT, keep=0) == []
    assert theirs.has() == set()


def test_removal_takes_the_manifest_first(ours, monkeypatch):
    _, written = checkpoints.write(ours.root, STATE, ADAPTER, manifest())
    removed = []
    monkeypatch.setattr(SharedFiles, "remove", lambda _, name: removed.append(name.rpartition("/")[2]))
    checkpoints.remove(ours.root, BOT, written.checkpoint_id)
    assert removed[0] == "manifest.json"
    assert sorted(removed) == sorted([*written.files, "manifest.json"])


def test_two_fetch_at_once(world, bucket: Bucket, tmp_path):
    ours, theirs = machine(tmp_path / "a", bucket.url), machine(tmp_path / "b", bucket.url)
    one = add(world, ours, world.base_id)
    with ThreadPoolExecutor(6) as pool:
        places = set(pool.map(lambda _: fetch(theirs.root, BOT, one), range(12)))
    assert places == {theirs.home / str(one)}
    assert isinstance(verify(theirs.home / str(one), BASE_HASH, BOT), Manifest)
    assert list((theirs.root.local / FETCHING).iterdir()) == []


def test_a_dead_fetch_is_removed_a_day_later(world, ours, theirs):
    one = add(world, ours, world.base_id)
    dead, alive = theirs.root.local / FETCHING / "dead", theirs.root.local / FETCHING / "alive"
    for left in (dead, alive):
        left.mkdir(parents=True)
    os.utime(dead, (1, 1))
    fetch(theirs.root, BOT, one)
    assert not dead.exists()
    assert alive.exists()


def test_neither_torch_nor_a_store_is_loaded_without_need():
    code = "import sys, app.policy.registry, app.shared_files; print({'torch', 's3fs', 'fsspec'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"


def explorer(at: Machine, database_url: str, *command: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, as on a machine that has this config and nothing else."""
    file = at.root.local.parent / "explorer.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(at.config.model_dump(mode="json")))
    return subprocess.run(
        [sys.executable, "-m", "app.cli", "checkpoints", *command, "--config", str(file)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": ".", "DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_commands_work_where_no_file_has_ever_been(world, ours, theirs, database_url, store):
    first = add(world, ours, world.base_id)
    second = add(world, ours, first)
    shown = json.loads(explorer(theirs, database_url, "show", str(second)).stdout)
    assert shown["manifest"]["checkpoint_id"] == str(second)
    assert theirs.has() == set(), "to look takes no file"
    assert explorer(theirs, database_url, "promote", str(second)).stdout == f"{second} is current\n"
    assert theirs.has() == {str(second)}
    assert explorer(theirs, database_url, "rollback").stdout == f"{first} is current\n"
    assert explorer(theirs, database_url, "prune", "--keep", "0").stdout == "removed the files of 1 checkpoint(s)\n"
    assert ours.root.ids(BOT) == [first]
    store.remove(f"{folder(first)}/manifest.json")
    shutil.rmtree(theirs.home)
    refused = explorer(theirs, database_url, "promote", str(first))
    assert refused.returncode == 2
    assert "is not there; restore it" in refused.stderr
