"""Backtests side by side: from their reports, older ones too, to a document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli import app
from app.local import compare
from app.local.comparison_table import ALL_SHOWN

ROOT = Path(__file__).parents[2]
POSTED = {"count": 402, "hostile": 2, "share": 0.005, "upper95": 0.0156}
SAID = {"count": 216, "hostile": 0, "share": 0.0, "upper95": 0.0138}
COST = {
    "replies": 40, "angry_replies": 5, "quotes": 9, "angry_quotes": 2,
    "blocks": 3, "blocks_by_members": 1, "reach_lost": 0.0125,
}  # fmt: skip


def report(community: str, arm: str, lift: float | None, warmth: tuple[float, float], **more: Any) -> dict[str, Any]:
    traits = [dict.fromkeys(ALL_SHOWN, 0.25) | {"warmth": value} for value in warmth]
    interval = None if lift is None else [lift - 0.1, lift + 0.1]
    return {
        "plan": {
            "model": "SmolLM2", "seed": 1, "community": community, "mechanism": "taste", "updates": None, "posts": 400,
            "arm": arm, "gate": "open",
        },
        "posted": 402, "updates": 4, "failures": [], "lift": lift, "lift_ci95": interval,
        "refused_share": 0.31,
        "rules": "6", "safety": {"posted": POSTED, "held_out": SAID, "cost": COST},
        "curve": [{"engagement": 2.0, "traits": found} for found in traits],
        **more,
    }  # fmt: skip


def older(found: dict[str, Any]) -> dict[str, Any]:
    """As it would have been before safety and traits were measured."""
    kept = {name: value for name, value in found.items() if name not in {"safety", "rules"}}
    return {**kept, "curve": [{"engagement": point["engagement"]} for point in found["curve"]]}


def put(directory: Path, found: dict[str, Any]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "report.json").write_text(json.dumps(found))
    return directory


@pytest.fixture
def document(tmp_path: Path) -> Path:
    file = tmp_path / "communities.md"
    file.write_text(f"Before.\n\n{compare.BEGIN}\n\nold\n\n{compare.END}\n\nAfter.\n")
    return file


def row(tables: str, *cells: str) -> str:
    """The last row that begins with these cells: of the traits, where a community has several tables."""
    return next(line for line in tables.splitlines() if line.startswith(f"| {' | '.join(cells)} |"))


def test_arms_of_a_community_stand_in_one_row(tmp_path: Path, document: Path) -> None:
    reports = [
        report("hearth", "trained", 0.3, (0.2, 0.5)), report("hearth", "shuffled", -0.02, (0.2, 0.21)),
        report("hearth", "oracle", 0.6, (0.2, 0.7)), report("odds", "trained", 0.2, (0.3, 0.1)),
    ]  # fmt: skip
    directories = [put(tmp_path / str(number), found) for number, found in enumerate(reports)]
    tables = compare.run(directories, document=document, kept=tmp_path / "kept")
    assert row(tables, "hearth", "1") == (
        "| hearth | 1 | 402 | 4 / 4 / 4 | +30% (+20% to +40%) | -2% (-12% to +8%) | +60% (+50% to +70%) | 50% |"
    )
    assert row(tables, "odds", "1").endswith("| +20% (+10% to +30%) | not run | not run | - |")
    said = "| hearth | 1 | trained | 6 | 2 of 402, at most 1.6% | 0 of 216, at most 1.4% | 31% | 3 | 1.2% | 2 of 9 |"
    assert said in tables
    # Opposite tastes, opposite directions.
    moved = tables[tables.index("## Which way") :]
    assert row(moved, "hearth", "1", "trained").startswith("| hearth | 1 | trained | 0.50 (+0.30) |")
    assert row(moved, "odds", "1", "trained").startswith("| odds | 1 | trained | 0.10 (-0.20) |")
    text = document.read_text()
    assert text.startswith("Before.\n\n")
    assert text.endswith("\n\nAfter.\n")
    assert tables in text
    assert "old" not in text
    assert (tmp_path / "kept" / compare.PLOT).stat().st_size > 10_000


def test_what_is_kept_is_shown_again_without_the_directories(tmp_path: Path, document: Path) -> None:
    made = put(tmp_path / "a", report("odds", "trained", 0.2, (0.3, 0.1)))
    first = compare.run([made], document=document, kept=tmp_path / "k")
    assert compare.run([], document=document, kept=tmp_path / "k") == first
    # The same run again takes the place of the first; another seed stands beside it.
    again = report("odds", "trained", 0.4, (0.3, 0.1))
    other = report("odds", "trained", 0.1, (0.3, 0.1))
    other["plan"] |= {"seed": 2}
    made_later = [put(tmp_path / "b", again), put(tmp_path / "c", other)]
    tables = compare.run(made_later, document=document, kept=tmp_path / "k")
    assert "+20%" not in row(tables, "odds", "1")
    assert row(tables, "odds", "1").endswith("| +40% (+30% to +50%) | not run | not run | - |")
    assert row(tables, "odds", "2")


def test_an_older_report_says_what_it_did_not_measure(tmp_path: Path, document: Path) -> None:
    found = older(report("uproar", "trained", 0.2, (0.0, 0.0)))
    tables = compare.run([put(tmp_path / "a", found)], document=document, kept=tmp_path / "kept")
    assert row(tables, "uproar", "1").endswith("| +20% (+10% to +30%) | not run | not run | - |")
    said = "| uproar | 1 | trained | not recorded | not measured | not measured | 31% | not measured | not measured |"
    assert said in tables
    assert row(tables[tables.index("## Which way") :], "uproar", "1", "trained").count("not measured") == len(ALL_SHOWN)


def test_no_share_is_told_of_an_oracle_that_learnt_nothing(tmp_path: Path, document: Path) -> None:
    arms = [report("odds", "trained", 0.02, (0, 0)), report("odds", "oracle", 0.05, (0, 0))]
    tables = compare.run([put(tmp_path / f["plan"]["arm"], f) for f in arms], document=document, kept=tmp_path / "k")
    assert row(tables, "odds", "1").endswith("| - (the oracle's is not above 0) |")
    none = report("feierabend", "trained", None, (0, 0))
    tables = compare.run([put(tmp_path / "none", none)], document=document, kept=tmp_path / "k")
    assert "none: the start earns nothing" in row(tables, "feierabend", "1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"a/report\.json: there is no report; `explorer backtest --out .*a` makes one"),
        ("{", r"a/report\.json: it is no report of a backtest"),
        ("[]", r"it is no report of a backtest"),
        ('{"plan": {}}', r"the report lacks lift, .*plan\.community.*run that backtest again"),
        (json.dumps(report("odds", "best", 0.1, (0, 0))), r"plan\.arm is 'best'; arms are trained, shuffled, oracle"),
        (json.dumps(report("odds", "trained", 0.1, (0, 0), failures=["2 duplicates"])), r"not sound: 2 duplicates"),
    ],
)
def test_what_is_no_report_is_named_and_nothing_is_written(
    tmp_path: Path, document: Path, text: str | None, message: str
) -> None:
    directory, before = tmp_path / "a", document.read_text()
    directory.mkdir()
    if text is not None:
        (directory / "report.json").write_text(text)
    with pytest.raises(compare.CompareError, match=message):
        compare.run([directory], document=document, kept=tmp_path / "kept")
    assert document.read_text() == before
    assert not (tmp_path / "kept").exists()


def test_the_command_says_where_the_tables_would_go(tmp_path: Path) -> None:
    document = tmp_path / "no-markers.md"
    document.write_text("nothing")
    given = ["compare", "--document", str(document), "--kept", str(tmp_path / "kept")]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 2
    assert "the tables go between the lines" in result.output
    document.write_text(f"{compare.BEGIN}{compare.END}")
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0
    assert "No backtest has been kept yet." in document.read_text()


def test_the_document_shows_what_is_kept() -> None:
    text = (ROOT / compare.DOCUMENT).read_text(encoding="utf-8")
    shown = text[text.index(compare.BEGIN) + len(compare.BEGIN) : text.index(compare.END)].strip()
    expected = compare.rendered(compare.comparisons(ROOT / compare.KEPT))
    assert shown.endswith(expected), "run `explorer compare`: docs/communities.md is not what docs/backtests comes to"
