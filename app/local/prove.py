"""`make prove`: several seeds of the trained and of the shuffled arm, each a backtest in a process of its own.

A run that has ended left its report behind and is not run again, so a proof that was broken off goes on where it was.
Both arms of a seed have the same community, the same starting model and the same number of applied updates.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from app.local.backtest import REPORT, Arm, Plan
from app.local.proofstats import Finding, Pair, as_markdown, conclude
from app.local.sandboxed import fetch_model
from app.local.stack import alone, end_on_signals

ARMS: tuple[Arm, ...] = ("trained", "shuffled")
FLAGS: dict[Arm, list[str]] = {"trained": [], "shuffled": ["--shuffle"], "oracle": ["--oracle"]}
Reports = dict[tuple[int, Arm], dict[str, Any] | None]  # by seed and arm; None: it has not ended
MEMORY_PER_RUN = 3 * 2**30  # bytes: writing takes 1.3 GiB, and training holds the model a second time
BEGIN, END = "<!-- proof: begin -->", "<!-- proof: end -->"


@dataclass(frozen=True)
class Job:
    """One backtest of a proof."""

    plan: Plan
    directory: Path

    def finished(self) -> dict[str, Any] | None:
        """The report of an earlier run of exactly this plan, if it ended."""
        file = self.directory / REPORT
        if not file.exists():
            return None
        report: dict[str, Any] = json.loads(file.read_text())
        return report if report["plan"] == self.plan.facts() else None

    def command(self) -> list[str]:
        options = [
            "--community", self.plan.community,
            "--updates", str(self.plan.updates),
            "--seed", str(self.plan.seed),
            "--gate", self.plan.gate,
            "--model", str(self.plan.model),
            "--out", str(self.directory),
        ]  # fmt: skip
        return [sys.executable, "-m", "app.cli", "backtest", *options, *FLAGS[self.plan.arm]]


class ProofError(RuntimeError):
    """A run of a proof ended without a report. The message names it and its log."""


def jobs_of(directory: Path, model: Path, *, seeds: int, updates: int, community: str) -> list[Job]:
    """Every run of a proof, the arms of a seed side by side."""
    return [
        Job(
            Plan(model=model, seed=seed, community=community, updates=updates, arm=arm),
            directory / f"seed-{seed}-{arm}",
        )
        for seed in range(1, seeds + 1)
        for arm in ARMS
    ]


def as_many_as_fit() -> int:
    """How many runs this machine takes at a time: one to a core, by its free memory."""
    cores = len(os.sched_getaffinity(0))
    return max(1, min(cores, int(psutil.virtual_memory().available // MEMORY_PER_RUN)))


def run(
    *,
    seeds: int,
    updates: int,
    jobs: int | None = None,
    community: str = "default",
    directory: Path = Path("data/prove"),
    document: Path = Path("docs/learning.md"),
) -> int:
    """Run what is not there yet, and say what all of it shows.

    Args:
        jobs: runs at a time; by default as many as fit.
        document: where the table goes, between its markers.

    Returns:
        0 if trained minus shuffled is above 0 with its whole interval and both arms had the same updates, else 1.

    Raises:
        AlreadyRunning: another proof works in the directory.
        ProofError: a run ended without a report, or was not sound.
        ValueError: fewer than two seeds have no interval.
    """
    if seeds < 2:
        raise ValueError(f"an interval over seeds needs two of them at least, got {seeds}; give more --seeds")
    console = Console()
    end_on_signals()
    model = fetch_model(console).resolve()
    wanted = jobs_of(directory, model, seeds=seeds, updates=updates, community=community)
    with alone(directory):
        run_missing(wanted, jobs or as_many_as_fit(), console)
        reports: Reports = {(job.plan.seed, job.plan.arm): job.finished() for job in wanted}
        _check(wanted, reports)
        finding = conclude(pairs_of(reports))
        days = max(report["world_days"] for report in reports.values() if report)
        table = as_markdown(finding, updates=updates, days=days)
        _write(directory / "proof.json", json.dumps(asdict(finding), indent=2))
        plot(reports, finding, directory / "proof.png")
    render(document, table)
    console.print(table, highlight=False, markup=False)
    console.print(f"The runs are in {directory}, the plot is {directory / 'proof.png'}")
    return 1 if finding.failures else 0


def run_missing(wanted: Sequence[Job], at_a_time: int, console: Console) -> None:
    """Run what has no report yet, so many at a time. What runs is ended if one fails, or on Ctrl-C.

    Raises:
        ProofError: a run ended without a report.
    """
    waiting = [job for job in wanted if job.finished() is None]
    console.print(f"{len(wanted) - len(waiting)} of {len(wanted)} runs are there; {at_a_time} at a time")
    running: dict[subprocess.Popen[bytes], Job] = {}
    threads = max(1, len(os.sched_getaffinity(0)) // at_a_time)
    try:
        while waiting or running:
            while waiting and len(running) < at_a_time:
                job = waiting.pop(0)
                running[_start(job, threads)] = job
            for process in [process for process in running if process.poll() is not None]:
                _collect(process, running.pop(process), console)
            time.sleep(0.5)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def _start(job: Job, threads: int) -> subprocess.Popen[bytes]:
    job.directory.mkdir(parents=True, exist_ok=True)
    with (job.directory / "log").open("wb") as log:
        return subprocess.Popen(
            job.command(), stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": str(threads)}
        )


def _collect(process: subprocess.Popen[bytes], job: Job, console: Console) -> None:
    report = job.finished()
    if report is None:
        raise ProofError(
            f"seed {job.plan.seed}, {job.plan.arm}: it ended with status {process.returncode} and without a report; "
            f"see {job.directory / 'log'}, and start again: what has ended is not run twice"
        )
    lift = "no lift" if report["lift"] is None else f"lift {report['lift']:+.0%}"
    console.print(
        f"seed {job.plan.seed}, {job.plan.arm}: {lift} after {report['updates']} updates, {report['seconds']:.0f} s",
        highlight=False,
    )


def _check(wanted: Sequence[Job], reports: Reports) -> None:
    """Make sure that every run was sound, those of an earlier start too.

    Raises:
        ProofError: one was not.
    """
    for job in wanted:
        report = reports[job.plan.seed, job.plan.arm]
        wrong = list(report["failures"]) if report is not None else []
        if report is not None and report["lift"] is None:
            wrong.append("the model that it started with earns nothing, so there is no lift to compare")
        if wrong:
            raise ProofError(
                f"seed {job.plan.seed}, {job.plan.arm}: {'; '.join(wrong)}; delete {job.directory} to run it again"
            )


def pairs_of(reports: Reports) -> list[Pair]:
    """The reports, two by two."""
    found = []
    for seed in sorted({seed for seed, _ in reports}):
        trained, shuffled = reports[seed, "trained"], reports[seed, "shuffled"]
        if trained is None or shuffled is None:
            raise ProofError(f"seed {seed} has no report of both arms; start again")
        found.append(Pair(seed, trained["lift"], shuffled["lift"], trained["updates"], shuffled["updates"]))
    return found


def render(document: Path, table: str) -> None:
    """Put the table between the markers of a document.

    Raises:
        ProofError: the document has no such markers.
    """
    text = document.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ProofError(f"{document}: the table goes between the lines {BEGIN} and {END}, which must be there once")
    _write(document, pattern.sub(lambda _: f"{BEGIN}\n\n{table}\n\n{END}", text))


def _write(file: Path, text: str) -> None:
    aside = file.with_name(f"{file.name}.part")
    aside.write_text(text, encoding="utf-8")
    aside.replace(file)


def plot(reports: Reports, finding: Finding, file: Path) -> None:
    """True engagement against that of the start by update, each seed thin and each arm's mean thick, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator

    figure, axis = pyplot.subplots(figsize=(7, 4.2), constrained_layout=True)
    for arm, colour in (("trained", "tab:blue"), ("shuffled", "tab:gray")):
        curves = [
            [100 * (point["engagement"] / report["curve"][0]["engagement"] - 1) for point in report["curve"]]
            for (_, of_arm), report in sorted(reports.items())
            if of_arm == arm and report
        ]
        for curve in curves:
            axis.plot(range(len(curve)), curve, color=colour, alpha=0.35, linewidth=1)
        shortest = min(map(len, curves))
        mean = [sum(curve[step] for curve in curves) / len(curves) for step in range(shortest)]
        axis.plot(range(shortest), mean, color=colour, marker="o", linewidth=2.5, label=f"{arm}, mean of {len(curves)}")
    axis.axhline(0, color="black", linewidth=0.6)
    axis.set(
        xlabel="applied updates",
        ylabel="true engagement on held-out topics, % over the start",
        title=f"Trained minus shuffled: {finding.mean:+.0%} (95 % {finding.low:+.0%} to {finding.high:+.0%})",
    )
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(file, dpi=130)
    pyplot.close(figure)
