"""`docs/performance.svg`: each figure of ours as a share of the baseline's, with what it has to reach."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "docs" / "performance.svg"

MET, MISSED, TOLD = "#2a7f62", "#b3392f", "#7a7f87"


def draw(results: Sequence[dict[str, Any]], file: Path = FILE) -> None:
    """Write the plot; nothing where nothing was measured."""
    import matplotlib  # slow to import, and not needed by --quick

    matplotlib.use("Agg")
    from matplotlib import pyplot

    bars = [
        (f"{result['row']}: {figure['name']}", figure)
        for result in results
        for figure in result["figures"]
        if figure["baseline"] is not None
    ]
    if not bars:
        return
    # The same results give the same file, and text stays text.
    with pyplot.rc_context({"svg.hashsalt": "benchmarks", "svg.fonttype": "none"}):
        figure, axes = pyplot.subplots(figsize=(9, 0.8 + 0.42 * len(bars)), constrained_layout=True)
        for at, (_, fact) in enumerate(bars):
            axes.barh(at, fact["ours"] / fact["baseline"], color={True: MET, False: MISSED, None: TOLD}[fact["met"]])
            if fact["target"] is not None:
                axes.vlines(allowed(fact), at - 0.45, at + 0.45, color="black", linewidth=2)
        axes.axvline(1, color="black", linewidth=0.8, linestyle=":")
        axes.set_yticks(range(len(bars)), [name for name, _ in bars])
        axes.invert_yaxis()
        axes.set_xlim(left=0)
        axes.set_xlabel("ours / baseline; the dotted line is the baseline, a mark the target (green met, red missed)")
        figure.savefig(file, metadata={"Date": None})
        pyplot.close(figure)


def allowed(figure: dict[str, Any]) -> float:
    """The target as a share ours / baseline, whichever way round the figure's own ratio is."""
    target = float(figure["target"])
    return target if figure["ratio_of"] == "ours / baseline" else 1 / target
