"""Draws the architecture in docs/architecture.md from the code, and checks that it is up to date.

python scripts/architecture.py           writes the drawings
python scripts/architecture.py --check   exits 1 if they are not what the code says
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from app.celery import GENERATION_QUEUES, IO_QUEUES, TASK_QUEUES, TICKS, TRAINING_QUEUES
from app.stages import WAKES
from dbs import models
from dbs.models import Base

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/architecture.md"
PART = re.compile(r"(<!-- drawn: (\w+) -->\n).*?(<!-- end -->\n)", re.DOTALL)

NODES = {
    "io-worker": IO_QUEUES,
    "generation@ (GPU service)": GENERATION_QUEUES,
    "training@ (GPU service)": TRAINING_QUEUES,
}

# Which room a module is in: the longest beginning counts. Whoever adds one says here where it belongs.
ROOMS = {
    "app": "stages",
    "app.broker": "queue",
    "app.celery": "queue",
    "app.tasks": "queue",
    "workers": "queue",
    "app.x": "X",
    "app.x_interactor": "X",
    "app.connectors": "connectors",
    "app.policy": "policy",
    "app.learning": "learning",
    "app.data": "jump start",
    "app.kickoff": "jump start",
    "app.sandbox": "sandbox",
    "app.console": "operator",
    "app.monitor": "operator",
    "app.doctor": "operator",
    "app.cli": "operator",
    "app.local": "operator",
    **dict.fromkeys(
        ("app.clock", "app.config", "app.cursors", "app.environment", "app.events", "app.leases", "app.loading",
         "app.logs", "app.loops", "app.schedule", "app.text", "dbs"),
        "ground",
    ),
}  # fmt: skip
# Everything leans on the ground, and the operator's tools on everything: arrows to and from them would hide the rest.
NOT_DRAWN = {"ground", "operator"}


def modules() -> dict[str, Path]:
    """Every module of the bot, by its dotted name."""
    files = [file for room in ("app", "dbs", "workers") for file in sorted((ROOT / room).rglob("*.py"))]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def room_of(module: str) -> str:
    parts = module.split(".")
    return next(ROOMS[name] for n in range(len(parts), 0, -1) if (name := ".".join(parts[:n])) in ROOMS)


def imports_of(file: Path) -> Iterator[tuple[str, str]]:
    """What a file imports anywhere, as (module, name); the name is empty where the module itself is imported."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.name) for alias in node.names)


def queues() -> str:
    """Who consumes which queue, and which tasks go through it."""
    ticked = set(TICKS.values())
    lines = ["```mermaid", "flowchart LR", '  beat(["beat"])']
    for number, (node, consumed) in enumerate(NODES.items()):
        lines.append(f'  subgraph n{number}["{node}"]')
        for queue in consumed:
            tasks = [task.rpartition(".")[2] for task, name in TASK_QUEUES.items() if name == queue]
            lines.append(f'    {queue}["<b>{queue}</b><br>{"<br>".join(tasks)}"]')
        lines.append("  end")
    lines += [f"  beat --> {queue}" for queue in sorted({TASK_QUEUES[task] for task in ticked})]
    wakes = {(TASK_QUEUES[TICKS[loop]], TASK_QUEUES[TICKS[woken]]) for loop, woken in WAKES.items()}
    wakes |= {(TASK_QUEUES["app.tasks.ppo_due"], TASK_QUEUES["app.tasks.ppo"])}
    wakes |= {(TASK_QUEUES["app.tasks.ppo"], TASK_QUEUES["app.tasks.reload"])}
    return "\n".join([*lines, *(f"  {one} -. wakes .-> {other}" for one, other in sorted(wakes)), "```\n"])


def rooms() -> str:
    """Which room imports from which other."""
    known, arrows = modules(), set[tuple[str, str]]()
    for module, file in known.items():
        targets = {f"{name}.{inner}" if f"{name}.{inner}" in known else name for name, inner in imports_of(file)}
        arrows |= {(room_of(module), room_of(target)) for target in targets & known.keys()}
    drawn = sorted(set(ROOMS.values()) - NOT_DRAWN)
    names = {room: room.replace(" ", "_") for room in drawn}
    lines = ["```mermaid", "flowchart TD", *(f'  {names[room]}["{room}"]' for room in drawn)]
    lines += [
        f"  {names[one]} --> {names[other]}"
        for one, other in sorted(arrows)
        if one != other and {one, other} <= set(drawn)
    ]
    return "\n".join([*lines, "```\n"])


def tables() -> str:
    """Which rooms name which table."""
    classes = {mapper.class_.__name__: mapper.class_.__tablename__ for mapper in Base.registry.mappers}
    used: dict[str, set[str]] = defaultdict(set)
    for module, file in modules().items():
        for name, inner in imports_of(file):
            if name == models.__name__ and inner in classes and room_of(module) != "ground":
                used[classes[inner]].add(room_of(module))
    heads = [room for room in dict.fromkeys(ROOMS.values()) if any(room in found for found in used.values())]
    lines = [f"| table | {' | '.join(heads)} |", f"| --- |{' --- |' * len(heads)}"]
    lines += [
        f"| `{table}` | {' | '.join('×' if room in found else '' for room in heads)} |"
        for table, found in sorted(used.items())
    ]
    return "\n".join([*lines, ""])


def drawn(page: str) -> str:
    """The page with every drawing as the code has it now."""
    drawings = {"queues": queues, "rooms": rooms, "tables": tables}
    return PART.sub(lambda part: f"{part[1]}{drawings[part[2]]()}{part[3]}", page)


def main(arguments: list[str]) -> int:
    page = PAGE.read_text(encoding="utf-8")
    if "--check" not in arguments:
        PAGE.write_text(drawn(page), encoding="utf-8")
    elif drawn(page) != page:
        sys.stderr.write(f"{PAGE.relative_to(ROOT)} is not what the code says; run python scripts/architecture.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
