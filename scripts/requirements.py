"""Print what the package and some of its extras need, one requirement a line.

An image installs them in a layer of its own, which lasts until pyproject.toml changes and not until the code does.

    python scripts/requirements.py sandbox ops | pip install --constraint constraints.txt --requirement /dev/stdin
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def requirements(extras: list[str]) -> list[str]:
    """What the package needs, and then what each extra adds.

    Raises:
        SystemExit: an extra does not exist; the message names those that do.
    """
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    known = project["optional-dependencies"]
    unknown = sorted(set(extras) - set(known))
    if unknown:
        raise SystemExit(f"{', '.join(unknown)}: no such extra in pyproject.toml; there are {', '.join(known)}")
    return [*project["dependencies"], *(line for extra in extras for line in known[extra])]


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1:])))
