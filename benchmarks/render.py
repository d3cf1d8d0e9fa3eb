"""`docs/performance.md`, written from the results and what their rows ask today."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import plot
from benchmarks.row import BASELINE, OURS

DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"

HEAD = """\
# Performance

Written by `make bench` from `benchmarks/results/`; not to be edited. A figure is a ratio of two medians, measured
by turns in one run on one machine, against what a user would pick instead; where there is no such thing, it is our
median alone, held against a target of its own. Each repetition is a process of its own. A target that was missed says
so. `make bench BENCH=ppo` measures one row again; `make bench GPU=1` those that need an NVIDIA GPU.
"""


def document(results: Sequence[dict[str, Any]]) -> str:
    """The whole document."""
    if not results:
        return f"{HEAD}\nNothing has been measured yet.\n"
    lines = ["| row | figure | ours | baseline | ratio | target | |", "| --- | --- | --- | --- | --- | --- | --- |"]
    lines += [_table_line(result, figure) for result in results for figure in result["figures"]]
    picture = f"![Each figure as a share of the baseline's]({plot.FILE.name})"
    return "\n".join([HEAD, *lines, "", picture, "", *(line for result in results for line in _section(result))])


def summary(result: dict[str, Any]) -> str:
    """A result for the terminal, a line per figure."""
    return "\n".join(_summary_line(figure) for figure in result["figures"])


def _summary_line(figure: dict[str, Any]) -> str:
    line = f"{figure['name']}: {_value(figure[OURS], figure['unit'])}"
    if figure[BASELINE] is not None:
        line += f" against {_value(figure[BASELINE], figure['unit'])}, {_ratio(figure)}"
    if figure["target"] is None:
        return line
    return f"{line}; the target is {_target(figure)}: {'met' if figure['met'] else 'MISSED'}"


def _table_line(result: dict[str, Any], figure: dict[str, Any]) -> str:
    ours, baseline = (_value(figure[side], figure["unit"]) for side in (OURS, BASELINE))
    cells = [result["row"], figure["name"], ours, baseline, _ratio(figure), _target(figure), _verdict(figure)]
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


def _section(result: dict[str, Any]) -> list[str]:
    machine = result["machine"]
    per_side = [
        f"- **{side}**: {result['sides'][side]['label']}. {' '.join(result['sides'][side]['settings'])} "
        f"({', '.join(f'{name} {version}' for name, version in result['sides'][side]['versions'].items())})"
        for side in result["sides"]
    ]
    count = sum(repetition["side"] == OURS for repetition in result["repetitions"])
    both = len(result["sides"]) > 1
    gpu = f"{machine['gpu']}; " if "gpu" in machine else ""
    return [
        f"## {result['row']}",
        "",
        result["what"],
        "",
        *per_side,
        f"- **{'both' if both else 'settings'}**: "
        + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in result["settings"].items()),
        f"- **machine**: {gpu}{machine['processor']}; {machine['cores']} cores, "
        f"{_value(machine['memory_bytes'], 'bytes')}, {machine['system']}, Python {machine['python']}; "
        f"load average {machine['load_before']} before the run",
        f"- **measured**: {result['measured_at'][:10]}, commit {result['commit']}, "
        f"{count} repetitions{' of each side' if both else ''}",
        *_bounds(result),
        "",
        *_curve(result),
    ]


def _bounds(result: dict[str, Any]) -> list[str]:
    """What a missed target is bound by."""
    missed = any(figure["met"] is False for figure in result["figures"])
    return [f"- **what bounds it**: {result['bounds']}"] if missed and result["bounds"] else []


def _curve(result: dict[str, Any]) -> list[str]:
    if "curve" not in result:
        return []
    return [f"![{result['curve']['shown']}, over {result['curve']['over']}]({plot.curve_name(result['row'])})", ""]


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    if unit == "bytes":
        return f"{value / 1e9:.2f} GB"
    return f"{value:.3g} {unit}".rstrip()


def _ratio(figure: dict[str, Any]) -> str:
    return "" if figure["ratio"] is None else _times(figure["ratio"])


def _times(ratio: float) -> str:
    """A ratio to two places, or as a fraction of 1 where these would say nothing."""
    return f"{ratio:.2f}×" if ratio >= 0.1 else f"1/{1 / ratio:.0f}"


def _target(figure: dict[str, Any]) -> str:
    if figure["target"] is None:
        return "none"
    target = figure["target"]
    if figure["ratio"] is None:
        return f"{figure['bound']} {_value(target, figure['unit'])}"
    return f"{figure['bound']} {f'{target:g}×' if target >= 0.1 else _times(target)}"


def _verdict(figure: dict[str, Any]) -> str:
    return {True: "met", False: "**missed**", None: ""}[figure["met"]]
