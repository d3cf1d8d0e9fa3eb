"""`python -m benchmarks [ROW ...]`: measure rows, keep their results and write `docs/performance.md` anew."""

from __future__ import annotations

import argparse
import os
import sys

from benchmarks import plot, render, results, rows, runner
from benchmarks.row import BenchmarkError


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "rows", nargs="*", metavar="ROW", help=f"of {', '.join(rows.names())}; all that need no GPU if none is named"
    )
    parser.add_argument("--threads", type=_count, default=os.cpu_count() or 1, help="of a side (default: all cores)")
    parser.add_argument("--repetitions", type=_count, help="of a side (default: as the row says)")
    parser.add_argument("--gpu", action="store_true", help="those that need a GPU, if none is named")
    parser.add_argument("--quick", action="store_true", help="a small run to try the row; nothing of it is kept")
    parser.add_argument("--render", action="store_true", help="measure nothing; write the document from what is kept")
    asked = parser.parse_args(arguments)
    failed = False
    for name in [] if asked.render else asked.rows or rows.names(gpu=asked.gpu):
        try:
            _measure(name, asked.threads, asked.repetitions, quick=asked.quick)
        except BenchmarkError as error:
            # The other rows are still measured: some take minutes.
            print(error, file=sys.stderr)
            failed = True
    if not asked.quick:
        kept = [results.judged(result, rows.load(result["row"])) for result in results.read_all()]
        plot.draw(kept)
        plot.draw_curves(kept)
        render.DOCUMENT.write_text(render.document(kept))
        print(f"written: {render.DOCUMENT}")
    return int(failed)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}; give a whole number from 1 up")
    return int(text)


def _measure(name: str, threads: int, repetitions: int | None, *, quick: bool) -> None:
    row = rows.load(name)
    settings = {"threads": threads, **row.settings, **(row.quick if quick else {})}
    load = os.getloadavg()[0]
    done = runner.measure(row, settings, repetitions or (1 if quick else row.repetitions), print)
    result = results.record(row, settings, done, load)
    print(render.summary(result))
    if not quick:
        print(f"written: {results.write(result)}")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
