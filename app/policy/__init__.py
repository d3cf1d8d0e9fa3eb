"""The model as an author: prompts, sampling, judging, drafting. Nothing here talks to X."""

from __future__ import annotations

import os

# Generation and training share the processor. libgomp's threads spin while they wait for one another, so that with
# another busy process beside them an operation of 0.1 ms took 7 ms (two cores, torch 2.13). It reads this when torch
# is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
