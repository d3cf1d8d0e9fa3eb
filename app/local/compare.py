"""`explorer compare`: what backtests of several communities came to, side by side, as a document with a plot.

Their reports are kept beside the document, so that what it shows can be looked at and shown anew. A report made
before a figure was measured still counts; the figure is then "not measured".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from app.local.backtest import REPORT, Arm
from app.local.comparison_table import ALL_SHOWN, Comparison, as_markdown, plot

DOCUMENT = Path("docs/communities.md")
KEPT = Path("docs/backtests")
PLOT = "communities.png"
BEGIN, END = "<!-- backtests: begin -->", "<!-- backtests: end -->"
# What must be alike in the arms of one comparison.
ALIKE = ("community", "mechanism", "seed", "updates", "posts", "gate", "model")


class CompareError(ValueError):
    """Reports that cannot be compared. The message names the file and what to do."""


def run(directories: Sequence[Path], *, document: Path = DOCUMENT, kept: Path = KEPT) -> str:
    """Keep the reports of some backtests, and write the document from all that are kept.

    Returns:
        What stands in the document, between its markers.

    Raises:
        CompareError: a directory has no sound report, or the document has no place for the tables.
    """
    found = {directory: read(directory / REPORT) for directory in directories}
    before, after = _around(document)
    kept.mkdir(parents=True, exist_ok=True)
    for report in found.values():
        text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
        (kept / f"{name_of(report['plan'])}.json").write_text(text, encoding="utf-8")
    compared = comparisons(kept)
    tables = rendered(compared)
    if compared:
        plot(compared, kept / PLOT)
        tables = f"![]({kept.name}/{PLOT})\n\n{tables}"
    document.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}", encoding="utf-8")
    return tables


def read(file: Path) -> dict[str, Any]:
    """One report.

    Raises:
        CompareError: it is not there, is no report of a backtest, or says that its run was not sound.
    """
    try:
        report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        plan = report["plan"]
        missing = [name for name in ("lift", "curve", "failures", "updates", "posted") if name not in report]
        missing += [f"plan.{name}" for name in (*ALIKE, "arm") if name not in plan]
    except FileNotFoundError:
        raise CompareError(f"{file}: there is no report; `explorer backtest --out {file.parent}` makes one") from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise CompareError(f"{file}: it is no report of a backtest ({error!r}); give the directory of one") from None
    if missing:
        raise CompareError(f"{file}: the report lacks {', '.join(missing)}; run that backtest again")
    if plan["arm"] not in get_args(Arm):
        raise CompareError(f"{file}: plan.arm is {plan['arm']!r}; arms are {', '.join(get_args(Arm))}")
    if report["failures"]:
        raise CompareError(f"{file}: the run was not sound: {'; '.join(report['failures'])}; run it again")
    return report


def name_of(plan: Mapping[str, Any]) -> str:
    """Of the kept report: what it is a run of."""
    ends = [f"{plan[name]}-{name}" for name in ("posts", "updates") if plan[name] is not None]
    mechanism = [] if plan["mechanism"] == "taste" else [plan["mechanism"]]
    gate = [] if plan["gate"] == "open" else [f"gate-{plan['gate']}"]
    community = Path(plan["community"]).stem
    return "_".join([community, *mechanism, *gate, f"seed-{plan['seed']}", *ends, plan["model"], plan["arm"]])


def comparisons(kept: Path) -> list[Comparison]:
    """The kept reports, the arms of a community together."""
    found: dict[tuple[Any, ...], Comparison] = {}
    for file in sorted(kept.glob("*.json")):
        report = read(file)
        plan = report["plan"]
        comparison = found.setdefault(tuple(plan[name] for name in ALIKE), Comparison(plan))
        comparison.arms[plan["arm"]] = report
    return list(found.values())


def rendered(compared: Sequence[Comparison]) -> str:
    """The tables; a sentence where there is nothing yet."""
    return as_markdown(compared, shown=ALL_SHOWN) if compared else "No backtest has been kept yet."


def _around(document: Path) -> tuple[str, str]:
    text = document.read_text(encoding="utf-8") if document.exists() else ""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise CompareError(f"{document}: the tables go between the lines {BEGIN} and {END}, which must be there once")
    return text[: text.index(BEGIN)], text[text.index(END) + len(END) :]
