"""What the documents name is there: every command with its options, every service, task, file and heading."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from documented import DOCUMENTS, ROOT, Command, in_blocks, in_text
from not_executed import NOT_EXECUTED, begins

from app.celery import TASK_QUEUES
from app.cli import app as cli
from workers.health import LONGEST_SECONDS

EVERYTHING = sorted({(command.text, command.where): command for command in (*in_blocks(), *in_text())}.items())
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# In running text a command may leave out what its sentence is about.
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]+|…|\[.*\]")


def commands_of(program: str) -> list[Any]:
    found = [command for _, command in EVERYTHING if command.words[:1] == [program]]
    assert found, program
    return [pytest.param(command, id=f"{command.where} {command.text}") for command in found]


@pytest.mark.parametrize("command", commands_of("explorer"))
def test_explorer_knows_the_command_and_its_options(command: Command) -> None:
    here: Any = typer.main.get_command(cli)
    words = command.words[1:]
    while words and hasattr(here, "commands"):
        if words[0] == "--help":
            return
        inner = here.commands.get(words[0])
        assert inner is not None, f"{command.where}: explorer has no {words[0]!r}"
        here, words = inner, words[1:]
    known = {name for option in here.params for name in (*option.opts, *option.secondary_opts)} | {"--help"}
    if here.context_settings.get("ignore_unknown_options"):  # it hands them on
        known |= set(re.findall(r"--[a-z-]+", help_of(f"app.{here.name}")))
    unknown = {word.partition("=")[0] for word in words if word.startswith("--")} - known
    assert not unknown, f"{command.where}: {here.name} does not know {', '.join(sorted(unknown))}"


@lru_cache
def help_of(module: str) -> str:
    return subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("command", commands_of("make"))
def test_make_has_the_target(command: Command) -> None:
    words = command.words[1:]
    done = subprocess.run(["make", "--dry-run", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command.where}: {done.stderr}"
    makefile = (ROOT / "Makefile").read_text()
    for word in words:
        if "=" in word:
            assert f"$({word.partition('=')[0]}" in makefile, f"{command.where}: nothing reads {word}"


@lru_cache
def services() -> set[str]:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return set(compose["services"])


@pytest.mark.parametrize("command", commands_of("docker"))
def test_compose_has_the_files_and_the_services(command: Command) -> None:
    words = command.words
    for flag, value in pairwise(words):
        if flag == "-f" and value.endswith(".yml"):
            assert (ROOT / value).exists(), command.where
        if flag == "--scale":
            assert value.partition("=")[0] in services(), command.where
        if flag == "--profile":
            assert f"[{value}]" in (ROOT / "docker-compose.yml").read_text(), command.where
    name = next((verb for verb in ("exec", "logs", "restart", "run", "cp", "stop", "start") if verb in words), None)
    if name is not None:
        rest = [word for word in words[words.index(name) + 1 :] if not word.startswith("-")]
        if rest and not PLACEHOLDER.fullmatch(rest[0]):
            assert rest[0].partition(":")[0] in services(), f"{command.where}: compose has no {rest[0]}"


@pytest.mark.parametrize("command", commands_of("celery"))
def test_celery_has_the_task(command: Command) -> None:
    words = command.words
    assert words[1:3] == ["-A", "app"], command.where
    if words[3] == "call":
        assert words[4] in TASK_QUEUES, command.where


SCRIPTS = sorted({command.words[0] for _, command in EVERYTHING if command.words[0].startswith("scripts/")})


@pytest.mark.parametrize(
    "command", [parameter for name in ("python", ".venv/bin/python", *SCRIPTS) for parameter in commands_of(name)]
)
def test_python_finds_what_it_is_to_run(command: Command) -> None:
    words = [word for word in command.words if not word.endswith("python")]
    if words[0] == "-m":
        file = ROOT / words[1].replace(".", "/")
        assert file.with_suffix(".py").exists() or (file / "__main__.py").exists(), command.where
        if words[1] == "workers.health":
            named = {word.partition("-")[0] for word in words[2:] if word[0] not in "/…-"}
            assert named <= {"beat", "flower", "monitor", *LONGEST_SECONDS}, command.where
    else:
        assert (ROOT / words[0]).exists(), command.where


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_what_is_linked_is_there(file: Path) -> None:
    for target in LINK.findall(file.read_text()):
        path, _, heading = target.partition("#")
        if "://" in path or path.startswith("mailto:"):
            continue
        linked = (file.parent / path).resolve() if path else file
        assert linked.exists(), f"{file.name} links {target}"
        if heading:
            assert heading in headings(linked), f"{file.name} links {target}"


def headings(file: Path) -> set[str]:
    """The anchors that a page is given for its headings."""
    lines = [line.lstrip("#").strip().lower() for line in file.read_text().splitlines() if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", line).replace(" ", "-") for line in lines}


def test_what_is_not_executed_is_still_documented() -> None:
    texts = [command.text for command in in_blocks()]
    stale = [
        beginning
        for beginnings in NOT_EXECUTED.values()
        for beginning in beginnings
        if not any(begins(text, beginning) for text in texts)
    ]
    assert not stale


def test_every_setting_and_file_in_the_readme_is_there() -> None:
    """The table of where things are."""
    for place in re.findall(r"^\| (`[^|]*) \|", (ROOT / "README.md").read_text(), re.MULTILINE):
        above = ""
        for name in re.findall(r"`([^`]+)`", place):
            if not re.search(r"[/.]", name) or " " in name:
                continue
            inside = f"{above}{name}" if "/" not in name and above and name.endswith(".py") else name
            above = name.rpartition("/")[0] + "/" if "/" in name else above
            assert any(ROOT.glob(inside.rstrip("/"))), f"README names {inside}"


def test_the_drawings_are_what_the_code_says() -> None:
    check = [sys.executable, "scripts/architecture.py", "--check"]
    done = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
