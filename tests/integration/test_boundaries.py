"""The lines that must hold: routes and queues agree, the two halves are apart, and I/O never meets torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from app.celery import GENERATION_QUEUES, IO_QUEUES, TASK_QUEUES, TICKS, TRAINING_QUEUES, app
from app.schedule import LoopName

ROOT = Path(__file__).parents[2]
# The one joint of the two halves, and the tasks, which import the policy's half inside functions only.
X_SIDE = (
    "app.x",
    "app.x_interactor",
    "app.connectors",
    "app.community",
    "app.copilot",
    "app.measuring",
    "app.optout",
    "app.posting",
    "app.reading",
    "app.reconciliation",
    "app.sighting",
)
POLICY_SIDE = ("app.policy", "app.learning")
# What both sides stand on; it leans on neither.
GROUND = (
    *(
        "app.config",
        "app.loading",
        "app.clock",
        "app.text",
        "app.safety",
        "app.conduct",
        "app.persona",
        "app.loops",
        "app.leases",
        "app.cursors",
    ),
    *("app.forgotten", "app.earlier", "app.approval", "app.offence", "app.personal_data"),
    *("app.data.files", "app.data.records", "app.data.near"),
)
HEAVY = {"torch", "transformers", "peft", "trl", "numpy", "sklearn", "statsmodels"}


def imports_of(file: Path) -> set[str]:
    """Every module that a file imports anywhere, type-checking blocks included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def files_of(prefixes: tuple[str, ...]) -> list[Path]:
    files: list[Path] = []
    for prefix in prefixes:
        place = ROOT / Path(*prefix.split("."))
        files += [place.with_suffix(".py")] if place.with_suffix(".py").exists() else sorted(place.rglob("*.py"))
    return files


def crosses(file: Path, prefixes: tuple[str, ...]) -> set[str]:
    return {name for name in imports_of(file) if any(name == p or name.startswith(f"{p}.") for p in prefixes)}


@pytest.mark.parametrize("file", files_of(X_SIDE), ids=str)
def test_the_x_side_never_imports_the_policy(file: Path) -> None:
    assert not crosses(file, POLICY_SIDE)


@pytest.mark.parametrize("file", files_of(POLICY_SIDE), ids=str)
def test_the_policy_never_imports_the_x_side(file: Path) -> None:
    assert not crosses(file, X_SIDE)


@pytest.mark.parametrize("file", files_of(GROUND), ids=str)
def test_the_ground_leans_on_neither_side(file: Path) -> None:
    assert not crosses(file, X_SIDE + POLICY_SIDE)


@pytest.mark.parametrize("file", sorted((ROOT / "app/sandbox").rglob("*.py")), ids=str)
def test_the_sandbox_knows_nothing_of_the_bot(file: Path) -> None:
    allowed = ("app.sandbox", "app.clock", "app.text", "app")
    strangers = {
        name
        for name in imports_of(file)
        if name.split(".")[0] in {"app", "dbs", "workers"}
        and not any(name == p or name.startswith(f"{p}.") for p in allowed[:3])
        and name not in {"app", "app.clock", "app.text"}
    }
    assert not strangers


# A backtest has the sandbox in its own process, because nobody else shares its virtual time. It only serves it.
SERVES_THE_SANDBOX = {ROOT / "app/local/virtual.py"}


@pytest.mark.parametrize(
    "file",
    [f for f in sorted((ROOT / "app").rglob("*.py")) if "sandbox" not in f.parts and f not in SERVES_THE_SANDBOX],
    ids=str,
)
def test_nothing_imports_the_sandbox(file: Path) -> None:
    assert not crosses(file, ("app.sandbox",))


@pytest.mark.parametrize("file", sorted((ROOT / "dbs").rglob("*.py")), ids=str)
def test_the_database_knows_nothing_of_the_app(file: Path) -> None:
    assert not crosses(file, ("app", "workers"))


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after a statement."""
    code = f"import sys; {statement}; print(' '.join(sorted({{name.split('.')[0] for name in sys.modules}})))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(output.stdout.split())


def test_an_io_worker_never_imports_torch() -> None:
    everything = "import workers.io, app.celery; app.celery.app.loader.import_default_modules()"
    setting = "import os; os.environ['EXPLORER_CONFIG'] = 'explorer.example.yaml'"
    assert not loaded_by(f"{setting}; {everything}") & HEAVY


def test_the_monitor_needs_no_model() -> None:
    setting = "import os; os.environ['EXPLORER_CONFIG'] = 'explorer.example.yaml'"
    assert not loaded_by(f"{setting}; import app.monitor.service, app.monitor.notify") & HEAVY


def test_the_app_itself_is_light() -> None:
    assert not loaded_by("import app") & (HEAVY | {"celery", "sqlalchemy", "pydantic"})
    assert not loaded_by("import app.celery") & (HEAVY | {"tweepy"})


def test_every_task_has_a_route_and_every_route_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPLORER_CONFIG", str(ROOT / "explorer.example.yaml"))
    app.loader.import_default_modules()
    tasks = {name for name in app.tasks if not name.startswith("celery.")}
    assert tasks == set(TASK_QUEUES)


def test_the_workers_queues_are_the_routes_queues() -> None:
    consumed = [*IO_QUEUES, *GENERATION_QUEUES, *TRAINING_QUEUES]
    assert len(consumed) == len(set(consumed))
    assert set(consumed) == set(TASK_QUEUES.values())


def test_every_loop_has_a_tick_that_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPLORER_CONFIG", str(ROOT / "explorer.example.yaml"))
    from app.celery import beat_schedule

    schedule = beat_schedule()
    assert set(schedule) == {loop.value for loop in LoopName} == {loop.value for loop in TICKS}
    assert all(entry["options"]["expires"] > entry["schedule"].total_seconds() for entry in schedule.values())
    assert {entry["task"] for entry in schedule.values()} <= set(TASK_QUEUES)


def test_only_json_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPLORER_CONFIG", str(ROOT / "explorer.example.yaml"))
    assert app.conf.accept_content == ["json"]
    assert app.conf.task_serializer == "json"
