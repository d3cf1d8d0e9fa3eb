"""The frame of `make bench`: ratios, targets, processes, the document. Nothing here is timed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import benchmark_sides
import pytest

from benchmarks import memory, plot, render, results, rows, runner
from benchmarks.__main__ import main
from benchmarks.results import Repetition
from benchmarks.row import BASELINE, OURS, BenchmarkError, Curve, Figure, Row, Side


def figure(**changes) -> Figure:
    facts = {"name": "items", "measured": "items", "unit": "s", "ratio_of": "baseline / ours", "bound": "at least"}
    return Figure(**({"target": 2.0} | facts | changes))


def side(measure) -> Side:
    return Side(label=measure.__name__, measure=measure, settings=("As it comes.",), path="tests/unit")


def row(*figures: Figure, ours=benchmark_sides.light, baseline=benchmark_sides.heavy) -> Row:
    return Row(
        name="tried",
        what="Two functions.",
        ours=side(ours),
        baseline=side(baseline),
        figures=figures or (figure(),),
        settings={"items": 2},
        packages=("rich",),
        repetitions=2,
    )


def measured(ours: list[float], baseline: list[float]) -> list[Repetition]:
    pairs = [*((OURS, value) for value in ours), *((BASELINE, value) for value in baseline)]
    return [Repetition(name, {"items": value}, {"rich": "1"}) for name, value in pairs]


@pytest.mark.parametrize(
    ("ratio", "bound", "target", "expected", "met"),
    [
        ("baseline / ours", "at least", 4.0, 4.0, True),
        ("baseline / ours", "at least", 4.01, 4.0, False),
        ("ours / baseline", "at most", 0.25, 0.25, True),
        ("ours / baseline", "at most", 0.24, 0.25, False),
        ("ours / baseline", "at most", None, 0.25, None),
    ],
)
def test_a_ratio_is_between_medians_and_held_against_its_target(ratio, bound, target, expected, met):
    found = results.outcome(
        figure(ratio_of=ratio, bound=bound, target=target), measured([2.0, 1.0, 90.0], [8.0, 7.0, 900.0])
    )
    assert (found.ours, found.baseline) == (2.0, 8.0)
    assert found.ratio == pytest.approx(expected)
    assert found.met is met


def test_a_figure_that_cannot_be_told_is_an_error():
    with pytest.raises(BenchmarkError, match="baseline did not measure 'items'"):
        results.outcome(figure(), measured([1.0], []))
    with pytest.raises(BenchmarkError, match="cannot divide by a median of 0"):
        results.outcome(figure(), measured([0.0], [1.0]))


def test_the_document_comes_from_the_kept_json_and_hides_no_missed_target(tmp_path):
    figures = (
        figure(name="fast"),
        figure(name="slow", target=5.0),
        figure(name="memory", unit="bytes", ratio_of="ours / baseline", bound="at most", target=0.5),
        figure(name="told", target=None),
    )
    kept = results.record(row(*figures), {"items": 2}, measured([2e9], [6e9]), load=0.3)
    results.write(kept, tmp_path)
    text = render.document(results.read_all(tmp_path))
    lines = {line.split("|")[2].strip(): line for line in text.splitlines() if line.startswith("| tried")}
    assert lines["fast"].endswith("| 3.00× | at least 2× | met |")
    assert lines["slow"].endswith("| 3.00× | at least 5× | **missed** |")
    assert lines["memory"] == "| tried | memory | 2.00 GB | 6.00 GB | 0.33× | at most 0.5× | met |"
    assert lines["told"].endswith("| 3.00× | none | |")
    for said in ("## tried", "heavy. As it comes. (rich 1)", "items 2", "load average 0.3", kept["commit"]):
        assert said in text
    assert "MISSED" in render.summary(kept)


def test_a_row_says_what_bounds_it_where_it_misses_a_target():
    for target, told in ((2.0, False), (5.0, True)):
        tried = replace(row(figure(target=target)), bounds="The clock.")
        text = render.document([results.record(tried, {}, measured([2.0], [6.0]), load=0.0)])
        assert ("- **what bounds it**: The clock." in text) is told


def test_the_plot_shows_every_figure_and_is_the_same_for_the_same_results(tmp_path):
    figures = (figure(name="fast"), figure(name="memory", ratio_of="ours / baseline", bound="at most", target=0.5))
    kept = json.loads(json.dumps(results.record(row(*figures), {}, measured([2.0], [6.0]), load=0.0)))
    for name in ("one.svg", "two.svg"):
        plot.draw([kept], tmp_path / name)
    drawn = (tmp_path / "one.svg").read_text()
    assert "tried: fast" in drawn
    assert "tried: memory" in drawn
    assert drawn == (tmp_path / "two.svg").read_text()
    assert [plot.allowed(one) for one in kept["figures"]] == [0.5, 0.5]


def test_a_row_of_one_side_is_held_against_targets_of_its_own(tmp_path):
    alone = {"ratio_of": "ours alone", "unit": "a second"}
    figures = (figure(name="fast", target=200.0, **alone), figure(name="slow", target=500.0, **alone))
    tried = replace(row(*figures), baseline=None)
    kept = json.loads(json.dumps(results.record(tried, {"items": 2}, measured([260.0, 250.0, 240.0], []), load=0.0)))
    text = render.document([kept])
    assert "| tried | fast | 250 a second | | | at least 200 a second | met |" in text
    assert "| tried | slow | 250 a second | | | at least 500 a second | **missed** |" in text
    assert "3 repetitions\n" in text
    assert "slow: 250 a second; the target is at least 500 a second: MISSED" in render.summary(kept)
    plot.draw([kept], tmp_path / "none.svg")
    assert not (tmp_path / "none.svg").exists(), "there is no ratio to draw"
    done = runner.measure(tried, {"items": 2}, 2, lambda line: None)
    assert [r.side for r in done] == [OURS, OURS]


def test_a_row_with_a_curve_draws_what_its_last_repetition_showed(tmp_path):
    tried = replace(row(), curve=Curve("seconds", "memory, MB", 1e6, 4e6))
    done = runner.measure(tried, {"items": 2}, 1, lambda line: None)
    kept = json.loads(json.dumps(results.record(tried, {"items": 2}, done, load=0.0)))
    assert kept["curve"]["points"] == [[0.0, 2e6], [0.5, 3e6]]
    assert "![memory, MB, over seconds](performance-tried.svg)" in render.document([kept])
    plot.draw_curves([kept], tmp_path)
    drawn = (tmp_path / "performance-tried.svg").read_text()
    assert "memory, MB" in drawn
    assert "seconds; the line is the bound" in drawn
    plot.draw_curves([kept | {"row": "plain"}], tmp_path)
    assert (tmp_path / "performance-plain.svg").read_text() == drawn, "the same points give the same picture"


def test_memory_that_grows_is_told_from_memory_that_is_flat():
    flat, growing = ([(t / 4, 100.0 + slope * t) for t in range(400)] for slope in (0.0, 1.0))
    assert memory.growth(flat) == 1.0
    assert memory.growth(growing) == pytest.approx(499 / 299)
    assert memory.peak(growing) == 499.0
    thinned = memory.curve([(t / 4, 9.0 if t == 777 else 1.0) for t in range(1000)])
    assert len(thinned) <= memory.KEPT
    assert [held for _, held in thinned].count(9.0) == 1, "no peak is lost"


def test_without_results_the_document_says_so(tmp_path):
    assert "Nothing has been measured yet" in render.document(results.read_all(tmp_path))


def test_the_shipped_document_is_that_of_the_shipped_results():
    kept = [results.judged(result, rows.load(result["row"])) for result in results.read_all()]
    assert render.DOCUMENT.read_text() == render.document(kept)


def test_a_target_that_was_raised_later_is_missed_by_what_was_measured_before():
    before = json.loads(json.dumps(results.record(row(figure(target=2.0)), {}, measured([2.0], [6.0]), load=0.0)))
    raised = replace(row(figure(target=5.0)), bounds="The clock.")
    text = render.document([results.judged(before, raised)])
    assert "| 3.00× | at least 5× | **missed** |" in text
    assert "- **what bounds it**: The clock." in text
    with pytest.raises(BenchmarkError, match="did not measure 'later'"):
        results.judged(before, row(replace(figure(), measured="later")))


def test_sides_take_turns_in_processes_of_their_own():
    done = runner.measure(row(), {"items": 2}, 2, lambda line: None)
    assert [r.side for r in done] == [OURS, BASELINE, BASELINE, OURS]
    assert len({r.values["pid"] for r in done}) == 4
    assert results.outcome(figure(), done).ratio == 3.0
    assert set(done[0].versions) == {"rich"}
    light, heavy = done[0].values, done[1].values
    assert heavy["peak_memory"] - light["peak_memory"] > 0.8 * benchmark_sides.BIG
    assert heavy["peak_memory_beyond_imports"] > 0.8 * benchmark_sides.BIG > light["peak_memory_beyond_imports"]


def test_a_side_that_fails_is_named_with_its_reason(tmp_path):
    broken = row(baseline=benchmark_sides.failing)
    with pytest.raises(BenchmarkError, match=r"tried, baseline: ended with 1: .*nothing to do with 2 items"):
        runner.run_side(broken, BASELINE, {"items": 2}, log=tmp_path / "log")


def test_unknown_rows_and_counts_are_refused(capsys):
    assert main(["nonsense", "--quick"]) == 1
    assert f"got 'nonsense', which is none; use {', '.join(rows.names())}" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--threads", "0"])


def test_rows_have_the_names_of_their_files_and_import_nothing_heavy():
    code = (
        "import json, sys; from benchmarks import rows, runner; loaded = [rows.load(name) for name in rows.names()];"
        "print(json.dumps([[r.name for r in loaded], 'torch' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=runner.PROJECT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [rows.names(), False]
