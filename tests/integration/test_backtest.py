"""The loop in virtual time, and the proof that is made of several such runs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories import give_draft
from rich.console import Console
from sqlalchemy import func, select

from app import clock
from app.config import VibeBotConfig
from app.learning.dataset import Logged
from app.learning.samples import Sample
from app.loading import ConfigError
from app.local import backtest, compare, lift, lift_again, prove
from app.local.backtest import Plan, backtest_config
from app.local.oracle import Oracle
from app.local.proofstats import Pair, as_markdown, conclude, t_interval
from app.local.virtual import START, NothingDue, virtual_loop
from app.policy import registry
from app.sandbox.traits import TRAITS
from app.schedule import LoopName
from dbs.models import Draft, GateVerdict, Loop, Post, TimelinePost
from dbs.states import Kind


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_small_backtest_learns_once(packaged_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in (
        (backtest, "DRAFTS_PER_UPDATE", 10),
        (lift, "EXAMPLES_PER_TOPIC", 1),
        (lift, "DRAFTS_PER_PROMPT", 1),
    ):
        monkeypatch.setattr(module, name, value)
    began = clock.wall_now()
    plan = Plan(model=packaged_model, seed=3, updates=1, arm="shuffled")
    found = backtest.run(plan, tmp_path)
    assert found["failures"] == []
    assert found["updates"] == 1
    assert found["posted"] >= 5
    assert [run["promoted"] for run in found["runs"]] == [True]
    assert found["runs"][0]["samples"] >= 10
    assert 4 / 24 <= found["world_days"] < 4
    assert clock.now() - began < timedelta(minutes=10)  # out of virtual time again
    assert [point["kind"] for point in found["curve"]] == ["base", "ppo"]
    assert all(0 <= point["hostile"] <= 1 for point in found["curve"])
    assert all(set(point["traits"]) == set(TRAITS) for point in found["curve"] if point["said"]["count"])
    safety = found["safety"]
    assert safety["posted"]["count"] == found["posted"]
    assert 0 < safety["posted"]["upper95"] <= 1
    assert safety["held_out"] == found["curve"][-1]["said"]
    assert safety["cost"]["blocks"] >= safety["cost"]["blocks_by_members"] >= 0
    assert 0 <= safety["cost"]["reach_lost"] < 1
    shown = Console(file=StringIO(), width=160)
    backtest.show(shown, found, tmp_path)
    assert "Hostile by the sandbox's own judgement" in shown.file.getvalue()
    compare.read(tmp_path / "report.json")
    assert found["usd"] == 0  # the sandbox's tier is a flat one
    assert found["usd_at_list_price"] > 0
    assert json.loads((tmp_path / "report.json").read_text()) == found
    assert (tmp_path / "lift.png").stat().st_size > 10_000
    _is_measured_again_and_nothing_else_changes(found, tmp_path, packaged_model)


def _is_measured_again_and_nothing_else_changes(found: dict[str, Any], directory: Path, model: Path) -> None:
    again = lift_again.run(directory, model=model, drafts=3)
    assert json.loads((directory / "report.json").read_text()) == again
    assert (found["drafts_per_prompt"], again["drafts_per_prompt"]) == (1, 3)
    assert [point["checkpoint_id"] for point in again["curve"]] == [point["checkpoint_id"] for point in found["curve"]]
    assert again["safety"]["held_out"] == again["curve"][-1]["said"]
    assert again["safety"]["held_out"]["count"] > found["safety"]["held_out"]["count"]
    changed = {name for name in again if again[name] != found[name]}
    assert changed <= {"lift", "lift_ci95", "drafts_per_prompt", "curve", "safety"}
    assert again["safety"] | {"held_out": None} == found["safety"] | {"held_out": None}


def test_a_lift_is_measured_again_only_where_a_backtest_has_ended_and_by_its_model(
    packaged_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(backtest.BacktestError, match="holds no backtest that has ended"):
        lift_again.run(tmp_path, model=packaged_model, drafts=1)
    plan = Plan(model=packaged_model, posts=5).facts()
    (tmp_path / "report.json").write_text(json.dumps({"plan": plan}))
    (tmp_path / "run" / "sandbox").mkdir(parents=True)
    with pytest.raises(backtest.BacktestError, match="--model: got /elsewhere/other"):
        lift_again.run(tmp_path, model=Path("/elsewhere/other"), drafts=1)


@pytest.fixture
def config_maker(packaged_model: Path, tmp_path: Path) -> Any:
    def make(observer: Any) -> VibeBotConfig:
        return backtest_config(tmp_path, Plan(model=packaged_model, updates=1), observer.handles(limit=4))

    return make


@pytest.mark.slow
def test_time_jumps_from_one_due_turn_to_the_next(config_maker: Any, tmp_path: Path) -> None:
    with virtual_loop(tmp_path, config_maker, community="default", seed=1) as loop:
        loop.pause("no model needed here", [LoopName.GENERATION, LoopName.OWN_POSTS, LoopName.SUMMARIES])
        assert clock.now() == START
        seen: list[tuple[timedelta, LoopName]] = []
        while not seen or seen[-1][0] < timedelta(hours=10):
            which = loop.step()
            seen.append((clock.now() - START, which))
        reads = [at for at, which in seen if which is LoopName.TIMELINE]
        assert reads == [timedelta(), timedelta(hours=8)]
        assert [at for at, which in seen if which is LoopName.PPO] == [timedelta(hours=h) for h in (2, 4, 6, 8, 10)]
        assert [at for at, _ in seen] == sorted(at for at, _ in seen)
        with loop.bot.db.transaction() as session:
            turns = dict(session.execute(select(Loop.loop, Loop.turns)).all())
            assert session.scalars(select(func.count()).select_from(Post)).one() == 0
            assert session.scalars(select(func.count()).select_from(GateVerdict)).one() == 0
        assert turns[LoopName.TIMELINE] == 2
        assert turns[LoopName.GENERATION] == 0
        loop.pause("all", list(LoopName))
        with pytest.raises(NothingDue):
            loop.step()


@pytest.mark.slow
def test_who_was_read_and_who_called_are_answered_in_one_turn(
    config_maker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[LoopName] = []

    def stage(which: LoopName) -> Callable[[object], int]:
        def work(_: object) -> int:
            taken.append(which)
            return 1

        return work

    monkeypatch.setattr("app.local.virtual.STAGES", {which: stage(which) for which in LoopName})
    with virtual_loop(tmp_path, config_maker, community="default", seed=1) as loop:
        answering = [LoopName.TIMELINE, LoopName.MENTIONS, LoopName.GENERATION]
        while clock.now() == START:
            loop.step()
        assert [which for which in taken if which in answering] == answering
        assert taken.index(LoopName.PUBLISHING) > taken.index(LoopName.GENERATION)


def logged(draft: Draft, reward: float, *, measured: bool = True) -> Logged:
    sample = Sample(draft.draft_id, [1], [2], [-0.5], 0.7, reward, np.zeros(1))
    return Logged(sample, uuid.uuid4(), 0.0, measured, True, draft.kind, (), frozenset())


@pytest.mark.slow
def test_the_oracle_rewards_what_a_text_is_worth_and_leaves_refusals_alone(config_maker: Any, tmp_path: Path) -> None:
    with virtual_loop(tmp_path, config_maker, community="default", seed=1) as loop:
        while loop.step() is not LoopName.TIMELINE:
            pass
        with loop.bot.db.transaction() as session:
            author = registry.current(session, "explorer")
            assert author
            target = session.scalars(select(TimelinePost).where(TimelinePost.text.contains("the")).limit(1)).one()
            answer = {"kind": Kind.REPLY, "target_post_id": target.x_post_id}
            insult = give_draft(session, author, "You are all idiots and this is garbage.", **answer)
            plain = give_draft(session, author, "That is a good thing for people to know about.", **answer)
            apt = give_draft(session, author, f"We counted 14 of them in May, because {target.text[:90]}", **answer)
            own = give_draft(session, author, "Our tram on Mill Road ran every 6 minutes in June, because we asked.")
            refused = give_draft(session, author, "")
            drafts = [insult, plain, apt, own]
            given = [*(logged(draft, 0.0) for draft in drafts), logged(refused, -2.0, measured=False)]
            session.expunge_all()
        found = Oracle(loop.bot.db, loop.observer, floor=-2.0)(given, 7)
    assert [item.sample.draft_id for item in found] == [item.sample.draft_id for item in given]
    rewards = [item.sample.reward for item in found]
    assert rewards[0] < rewards[1] < rewards[2]
    assert rewards[3] > rewards[0]
    assert rewards[4] == -2.0
    assert [item.sample.reward for item in given] == [0.0, 0.0, 0.0, 0.0, -2.0]


def test_a_community_that_does_not_exist_is_named(config_maker: Any, tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=r"community.*atlantis"),
        virtual_loop(tmp_path, config_maker, community="atlantis", seed=1),
    ):
        pass


def test_a_backtest_needs_an_end(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs an end"):
        Plan(model=tmp_path)


# --- the proof ---


def by_integration(values: list[float], confidence: float) -> tuple[float, float]:
    """The interval by summing up Student's density, for n = 4 written out: f(t) ∝ (1 + t²/3)^-2."""
    assert len(values) == 4
    t = np.linspace(0, 60, 600_001)
    density = (1 + t**2 / 3) ** -2.0
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(t))])
    quantile = float(np.interp(confidence * 6 * np.sqrt(3) * np.pi / 24, mass, t))  # half the total is π√3/4
    mean = sum(values) / 4
    spread = (sum((value - mean) ** 2 for value in values) / 3) ** 0.5
    return mean - quantile * spread / 2, mean + quantile * spread / 2


def test_the_interval_is_students() -> None:
    values = [0.31, 0.12, 0.22, 0.45]
    assert t_interval(values) == pytest.approx(by_integration(values, 0.95), abs=1e-4)
    with pytest.raises(ValueError, match="two"):
        t_interval([0.3])


def pairs(trained: list[float], shuffled: list[float], updates: int = 3) -> list[Pair]:
    return [Pair(i, a, b, 3, updates) for i, (a, b) in enumerate(zip(trained, shuffled, strict=True), 1)]


def test_a_clear_difference_is_shown_and_a_wavering_one_is_not() -> None:
    clear = conclude(pairs([0.3, 0.35, 0.28, 0.4], [0.02, -0.03, 0.05, 0.0]))
    assert clear.failures == ()
    assert clear.low > 0
    assert "**+32%**" in as_markdown(clear, updates=3, days=8)
    unsure = conclude(pairs([0.3, -0.2, 0.28, 0.1], [0.02, -0.03, 0.05, 0.0]))
    assert "nothing is shown" in unsure.failures[0]
    assert "proves nothing" in as_markdown(unsure, updates=3, days=8)


def test_a_lift_that_is_no_number_shows_nothing() -> None:
    assert conclude(pairs([0.3, float("nan"), 0.28, 0.4], [0.0, 0.0, 0.0, 0.0])).failures


def test_arms_with_unlike_numbers_of_updates_prove_nothing() -> None:
    finding = conclude(pairs([0.3, 0.35, 0.28, 0.4], [0.02, -0.03, 0.05, 0.0], updates=2))
    assert len(finding.failures) == 4
    assert "3 updates were applied in the trained arm, 2 in the shuffled one" in finding.failures[0]


CHILD = """
import json, pathlib, sys
with open(sys.argv[1] + "/runs", "a") as file: file.write("x")
pathlib.Path(sys.argv[1], "report.json").write_text(sys.argv[2])
"""


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[prove.Job]:
    """The jobs of two seeds, whose child writes a report at once and notes that it ran."""
    found = prove.jobs_of(tmp_path / "prove", tmp_path / "model", seeds=2, updates=3, community="default")

    def command(job: prove.Job) -> list[str]:
        value = 0.3 if job.plan.arm == "trained" else 0.0
        report = {
            "plan": job.plan.facts(), "lift": value + 0.01 * job.plan.seed, "updates": 3, "seconds": 1.0,
            "world_days": 8.0, "failures": [], "curve": [{"engagement": 2.0}, {"engagement": 2.0 * (1 + value)}],
        }  # fmt: skip
        return [sys.executable, "-c", CHILD, str(job.directory), json.dumps(report)]

    monkeypatch.setattr(prove.Job, "command", command)
    return found


def runs(job: prove.Job) -> int:
    return len((job.directory / "runs").read_text())


def test_what_has_ended_is_not_run_again(jobs: list[prove.Job]) -> None:
    assert [(job.plan.seed, job.plan.arm) for job in jobs] == [
        (1, "trained"), (1, "shuffled"), (2, "trained"), (2, "shuffled"),
    ]  # fmt: skip
    prove.run_missing(jobs, 2, Console(quiet=True))
    assert [runs(job) for job in jobs] == [1, 1, 1, 1]
    (jobs[2].directory / "report.json").unlink()  # as if that one had been killed
    other = json.loads((jobs[3].directory / "report.json").read_text())
    other["plan"]["updates"] = 1  # and this one had been asked for something else
    (jobs[3].directory / "report.json").write_text(json.dumps(other))
    prove.run_missing(jobs, 1, Console(quiet=True))
    assert [runs(job) for job in jobs] == [1, 1, 2, 2]


def test_a_run_without_a_report_ends_the_proof_and_the_others(
    jobs: list[prove.Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(job: prove.Job) -> list[str]:
        return [
            sys.executable,
            "-c",
            "raise SystemExit(3)" if job.plan.arm == "shuffled" else "import time; time.sleep(60)",
        ]

    monkeypatch.setattr(prove.Job, "command", command)
    children: list[subprocess.Popen[bytes]] = []
    start = prove._start

    def noted(job: prove.Job, threads: int) -> subprocess.Popen[bytes]:
        children.append(start(job, threads))
        return children[-1]

    monkeypatch.setattr(prove, "_start", noted)
    began = time.monotonic()
    with pytest.raises(prove.ProofError, match=r"seed 1, shuffled.*status 3.*log"):
        prove.run_missing(jobs, 2, Console(quiet=True))
    assert time.monotonic() - began < 30
    assert len(children) == 2
    assert all(child.poll() is not None for child in children)


def test_the_table_is_rendered_between_the_markers(
    jobs: list[prove.Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = tmp_path / "learning.md"
    document.write_text(f"before\n\n{prove.BEGIN}\nold\n{prove.END}\n\nafter\n")
    monkeypatch.setattr(prove, "fetch_model", lambda _: tmp_path / "model")
    for _ in range(2):  # rendering again changes nothing
        code = prove.run(seeds=2, updates=3, jobs=2, directory=tmp_path / "prove", document=document)
        assert code == 0
        text = document.read_text()
        assert text.startswith("before\n")
        assert text.endswith("after\n")
        assert "old" not in text
        assert text.count("| 1 | +31% | +1% | +30% | 3 and 3 |") == 1
    assert [runs(job) for job in jobs] == [1, 1, 1, 1]
    assert (tmp_path / "prove/proof.png").stat().st_size > 10_000
    unsound = json.loads((jobs[0].directory / "report.json").read_text()) | {"failures": ["1 duplicate(s)"]}
    (jobs[0].directory / "report.json").write_text(json.dumps(unsound))
    with pytest.raises(prove.ProofError, match=r"seed 1, trained: 1 duplicate.*delete"):
        prove.run(seeds=2, updates=3, jobs=2, directory=tmp_path / "prove", document=document)
    document.write_text("no markers")
    with pytest.raises(prove.ProofError, match="must be there once"):
        prove.render(document, "table")
