"""What docker-compose.yml promises, on a real engine: it works by itself, is survived, and keeps what it has."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from compose_stack import IO_WORKERS, KILL_CHILDREN, Compose, docker_run
from documented import under

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]

OURS = ("beat", "io-worker", "gpu-worker", "flower", "monitor", "console", "sandbox")
POSTED = "select x_post_id from bot_db where state = 'posted'"
KEYS = {"bot_db": "post_id", "drafts": "draft_id", "community_db": "user_id", "checkpoints": "checkpoint_id"}
IN_FLIGHT = "select post_id from bot_db where state = 'sending'"


def test_it_posts_by_itself(compose: Compose) -> None:
    compose.wait_for("third post", 600, lambda: len(compose.posted()) >= 3)


def test_the_kick_off_is_done_and_holds_nothing(compose: Compose) -> None:
    steps = compose.rows("select step || ':' || state from kickoff_steps")
    # The sandbox is another machine to it, so it counts as live X, and nobody has opted in to training on that.
    assert steps == {"databases:done", "community:done", "data_set:skipped", "sft:skipped", "loops:done"}
    assert compose.rows("select loop from loops where paused") == set()
    (box,) = compose.containers("kickoff")
    assert box["State"]["Health"]["Status"] == "healthy"
    assert "done before" in compose("run", "--rm", "-T", "kickoff", "explorer", "kickoff")


def test_the_image_without_torch_is_small(compose: Compose) -> None:
    sizes = compose("exec", "-T", "beat", "du", "--summarize", "--bytes", "/venv", "/app").splitlines()
    assert sum(int(line.split()[0]) for line in sizes) < 300e6
    torch = "import importlib.util; print(importlib.util.find_spec('torch'))"
    assert compose("exec", "-T", "beat", "python", "-c", torch) == "None\n"
    assert compose("exec", "-T", "beat", "id", "--user") == "10001\n"


def test_the_io_workers_share_the_work(compose: Compose) -> None:
    def workers_that_worked() -> int:
        command = ("celery", "-A", "app", "inspect", "stats", "--json", "--timeout", "10")
        replies = json.loads(compose("exec", "-T", "io-worker", *command))
        # Echoes come from the health check, to each for itself.
        work = [sum(count for task, count in reply["total"].items() if "echo" not in task)
                for node, reply in replies.items() if node.startswith("io@")]  # fmt: skip
        return sum(count > 0 for count in work)

    compose.wait_for("work for each I/O worker", 300, lambda: workers_that_worked() == IO_WORKERS)


def test_flower_shows_the_tasks_behind_its_password(compose: Compose) -> None:
    password = compose.settings["FLOWER_PASSWORD"]
    assert "app.tasks.timeline" in {task["name"] for task in tasks_in_flower(compose).values()}
    assert "flower_events_total" in flower(compose, "/metrics", f"explorer:{password}")
    for path in ("/", "/tasks", "/api/tasks", "/api/workers", "/metrics"):
        for credentials in (None, "explorer:guessed"):
            with pytest.raises(urllib.error.HTTPError, match="401"):
                flower(compose, path, credentials)


@pytest.mark.parametrize("service", OURS)
def test_what_is_killed_comes_back_by_itself(compose: Compose, service: str) -> None:
    before = {box["Id"]: box["RestartCount"] for box in compose.containers(service)}
    # From inside, because the engine does not restart what it was told to kill.
    compose("exec", "-T", service, "python", "-c", KILL_CHILDREN, check=False)

    def is_back() -> bool:
        boxes = compose.containers(service)
        restarted = sum(box["RestartCount"] - before[box["Id"]] for box in boxes)
        return restarted >= 1 and all(box["State"]["Health"]["Status"] == "healthy" for box in boxes)

    compose.wait_for(f"healthy {service}", 300, is_back)


@pytest.mark.parametrize("service", ["postgres", "redis"])
def test_a_killed_server_is_survived(compose: Compose, service: str) -> None:
    compose("kill", "--signal", "SIGKILL", service)
    already = compose.posted()
    compose.up()
    compose.wait_for("further post", 600, lambda: compose.posted() > already)


def test_down_and_up_loses_nothing(compose: Compose) -> None:
    posted, rows, seen = compose.posted(), ids(compose), tasks_in_flower(compose)
    assert posted
    compose("down")
    compose.up()
    assert compose.posted() >= posted
    for table, before in rows.items():
        assert before <= ids(compose)[table], table
    # It saves what it has seen every half minute, and when it ends.
    assert seen.keys() & tasks_in_flower(compose).keys()
    compose.wait_for("further post", 600, lambda: compose.posted() > posted)


def test_the_record_and_the_rows_agree(compose: Compose) -> None:
    def agree() -> bool:
        # A post that is on its way is in one of the two only for a moment.
        return compose.posted() == compose.rows(POSTED) and not compose.rows(IN_FLIGHT)

    compose.wait_for("agreement of the sandbox's record with our rows", 300, agree)
    targets = [(row["kind"], row["target"]) for row in compose.record() if row["id"] and row["target"]]
    answered = [target for target in targets if target[0] in {"reply", "quote"}]
    assert len(answered) == len(set(answered))


def test_a_backup_is_restored(compose: Compose, tmp_path: Path) -> None:
    """As `docs/docker.md` has it, into empty volumes; the sandbox, which is X, keeps its own."""
    backup, restore = under("docs/docker.md", "## Backup, restore, upgrade", "## Tried"), []
    while not backup[-1].endswith("up -d postgres --wait"):
        restore.insert(0, backup.pop())
    restore.insert(0, backup.pop())
    before = ids(compose)
    for line in backup:
        compose.documented(line, tmp_path)
    compose("down")
    docker_run(["docker", "volume", "rm", f"{compose.project}_postgres", f"{compose.project}_checkpoints"])
    for line in restore[:3]:
        compose.documented(line, tmp_path)
    after = ids(compose)
    assert [table for table in KEYS if not before[table] <= after[table]] == []
    compose.up()
    already = compose.posted()
    compose.wait_for("further post", 600, lambda: compose.posted() > already)


def ids(compose: Compose) -> dict[str, set[str]]:
    """The keys of all rows, by table."""
    return {table: compose.rows(f"select {key} from {table}") for table, key in KEYS.items()}


def tasks_in_flower(compose: Compose) -> dict[str, dict[str, str]]:
    answer = flower(compose, "/api/tasks?limit=1000", f"explorer:{compose.settings['FLOWER_PASSWORD']}")
    return dict(json.loads(answer))


def flower(compose: Compose, path: str, credentials: str | None) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{compose.flower_port}{path}")
    if credentials is not None:
        request.add_header("Authorization", f"Basic {base64.b64encode(credentials.encode()).decode()}")
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - likewise
        return str(answer.read().decode())
