"""Kick the bot off: databases, community, data set, LoRA SFT, loops. `explorer kickoff` is the same.

    .venv/bin/python scripts/kickoff.py --config explorer.yaml [--yes] [--here]

May be interrupted anywhere and run again: each step is recorded in `kickoff_steps`, done once, and goes on where it
was. The I/O workers gather and the training node trains, which must be up (`explorer up`, `python -m workers.io`,
`python -m workers.gpu`); with --here, this process does both.
"""

from __future__ import annotations

import sys

from app.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "kickoff")
    main()
