"""The commands that the documents tell people to run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "dbs/readme.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
PROGRAMS = {
    *("explorer", "make", "celery", "alembic", "python", "python3", "pytest", "docker", "kubectl", "helm"),
    *("pg_dump", "pg_restore", "createdb", "psql", "tar", "pip", "rabbitmqctl", "cp", "cd", "git", "curl", "export"),
}
ASSIGNMENT = re.compile(r"[A-Z_]+=\S*")
COMMENT = re.compile(r"\s+#\s.*$|^#.*$")
SPAN = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Command:
    """A command as it stands in a document, without its comment."""

    text: str
    document: str
    line: int

    @property
    def where(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def words(self) -> list[str]:
        """Its words, without variables that are set for it alone."""
        words = shlex.split(self.text)
        while words and ASSIGNMENT.fullmatch(words[0]):
            words.pop(0)
        return words


def is_command(text: str) -> bool:
    words = [word for word in text.split() if not ASSIGNMENT.fullmatch(word)]
    return bool(words) and (words[0].rpartition("/")[2] in PROGRAMS or words[0].startswith("scripts/"))


def in_blocks() -> list[Command]:
    """Every line of every block, indented or fenced, that is a command; a backslash at its end takes the next along."""
    return [command for file in DOCUMENTS for command in _blocks_of(file)]


def under(document: str, heading: str, before: str) -> list[str]:
    """The commands of a document's blocks between a heading and a later one."""
    lines = (ROOT / document).read_text().splitlines()
    first, last = (next(n for n, line in enumerate(lines, 1) if line == wanted) for wanted in (heading, before))
    return [command.text for command in in_blocks() if command.document == document and first < command.line < last]


def in_text() -> list[Command]:
    """What stands between backticks in running text and begins as a command."""
    return [
        Command(span, str(file.relative_to(ROOT)), number)
        for file in DOCUMENTS
        for number, line in enumerate(file.read_text().splitlines(), 1)
        for span in SPAN.findall(line)
        if is_command(span) and " " in span
    ]


def _blocks_of(file: Path) -> Iterator[Command]:
    fenced, whole = False, ""
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
            continue
        if not (fenced or line.startswith("    ")):
            continue
        whole += COMMENT.sub("", line.strip())
        if whole.endswith("\\"):
            whole = whole[:-1]
            continue
        if is_command(whole):
            yield Command(whole, str(file.relative_to(ROOT)), number)
        whole = ""
