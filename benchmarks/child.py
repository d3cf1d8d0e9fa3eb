"""One repetition of one side, in a process of its own: `python -m benchmarks.child MODULE FUNCTION GIVEN RESULT`.

GIVEN and RESULT are JSON files. A process for each repetition makes its peak memory its own.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from benchmarks.row import Measure, Measured, Probe, peak_rss


def main(arguments: list[str]) -> None:
    module, function, given_file, result_file = arguments
    given = json.loads(Path(given_file).read_text())
    measure: Measure = getattr(import_module(module), function)
    probe = Probe()
    values: Measured = dict(measure(given["settings"], probe))
    peak = peak_rss()
    values["peak_memory"] = peak
    if probe.imports_rss is not None:
        values["peak_memory_beyond_imports"] = peak - probe.imports_rss
    # Asked here, because a side may have other packages before the installed ones.
    versions = {name: version(name) for name in given["packages"]}
    Path(result_file).write_text(json.dumps({"values": values, "versions": versions, "points": probe.points}))


if __name__ == "__main__":
    main(sys.argv[1:])
