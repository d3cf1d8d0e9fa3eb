"""Pictures of the results: `docs/performance.svg`, each figure of ours as a share of the baseline's with what it has to
reach, and the curves of the rows that have one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "docs" / "performance.svg"

MET, MISSED, TOLD = "#2a7f62", "#b3392f", "#7a7f87"


def draw(results: Sequence[dict[str, Any]], file: Path = FILE) -> None:
    """Write the bars; nothing where nothing was measured against a baseline."""
    bars = [
        (f"{result['row']}: {figure['name']}", figure)
        for result in results
        for figure in result["figures"]
        if figure["baseline"] is not None
    ]
    if not bars:
        return
    with _picture(file, 0.8 + 0.42 * len(bars)) as axes:
        for at, (_, fact) in enumerate(bars):
            share = fact["ours"] / fact["baseline"]
            axes.barh(at, share - 1, left=1, color={True: MET, False: MISSED, None: TOLD}[fact["met"]])
            if fact["target"] is not None:
                axes.vlines(allowed(fact), at - 0.45, at + 0.45, color="black", linewidth=2)
        axes.axvline(1, color="black", linewidth=0.8, linestyle=":")
        axes.set_yticks(range(len(bars)), [name for name, _ in bars])
        axes.invert_yaxis()
        axes.margins(y=0.01)
        axes.set_xscale("log")  # a thousandth and eight times in one picture
        axes.set_xlabel("ours / baseline; bars begin at the baseline,\na mark is the target (green met, red missed)")


def draw_curves(results: Sequence[dict[str, Any]], folder: Path = FILE.parent) -> None:
    """Write the curve of each row that has one, with its bound."""
    for result in results:
        if "curve" not in result:
            continue
        found = result["curve"]
        with _picture(folder / curve_name(result["row"]), 3.2) as axes:
            along, up = zip(*found["points"], strict=True)
            axes.plot(along, [value / found["scale"] for value in up], color=MET)
            axes.axhline(found["bound"] / found["scale"], color="black", linewidth=2)
            axes.set_xlim(left=0)
            axes.set_ylim(bottom=0)
            axes.set_xlabel(f"{found['over']}; the line is the bound")
            axes.set_ylabel(found["shown"])


def curve_name(row: str) -> str:
    """The file of a row's curve, beside the document."""
    return f"{FILE.stem}-{row.replace('_', '-')}.svg"


@contextmanager
def _picture(file: Path, height: float) -> Iterator[Any]:
    """Axes that are saved at the end. The same results give the same file, and text stays text."""
    import matplotlib  # slow to import, and not needed by --quick

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with pyplot.rc_context({"svg.hashsalt": "benchmarks", "svg.fonttype": "none"}):
        figure, axes = pyplot.subplots(figsize=(9, height), constrained_layout=True)
        yield axes
        figure.savefig(file, metadata={"Date": None})
        pyplot.close(figure)


def allowed(figure: dict[str, Any]) -> float:
    """The target as a share ours / baseline, whichever way round the figure's own ratio is."""
    target = float(figure["target"])
    return target if figure["ratio_of"] == "ours / baseline" else 1 / target
