"""`explorer backtest`: the whole loop in virtual time, weeks of a community in minutes, and what came of it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select

from app import clock, logs
from app.config import VibeBotConfig
from app.learning.control import Relabel, shuffled
from app.learning.turn import RunOutcome
from app.loading import parse_config
from app.local.curve import plot, show_curve
from app.local.lift import Measurement
from app.local.observer import Observer
from app.local.oracle import Oracle
from app.local.report import report
from app.local.safety_figures import safety_figures, show_safety
from app.local.sandboxed import BOT_ID, time_lapse_config
from app.local.servers import EmbeddedPostgres
from app.local.stack import alone, end_on_signals
from app.local.virtual import START, Mechanism, VirtualLoop, virtual_loop
from app.policy.wording import PROMPT_VERSION
from app.safety import FILTER_VERSION
from app.schedule import LoopName
from dbs.models import LedgerEntry, Post
from dbs.states import PostState

Arm = Literal["trained", "shuffled", "oracle"]

REPORT = "report.json"
DRAFTS_PER_UPDATE = 96
MOST_ANSWERED = 64  # in a turn: what the timeline brings, and who called; some 30 to 40
# A community that answers so little that nothing is ever learnt must not be lived in for ever.
LONGEST = timedelta(days=90)
WRITING = [LoopName.TIMELINE, LoopName.MENTIONS, LoopName.GENERATION, LoopName.OWN_POSTS]
# They change prompts and persona on the way; a backtest asks what the updates of the policy did.
LEFT_OUT = [LoopName.SUMMARIES, LoopName.PERSONA]


@dataclass(frozen=True)
class Plan:
    """What a backtest is asked for.

    Attributes:
        model: directory of the base model.
        updates: applied updates after which it ends, whatever was posted; None for no such end.
        posts: posts after which nothing new is written; what was posted is still measured and learnt from.
        arm: what is learnt from: the rewards that were earned, the same shuffled, or those of an oracle.
        gate: profile of the gate (`PPOConfig.gate`).
    """

    model: Path
    seed: int = 1
    community: str = "default"
    mechanism: Mechanism = "taste"
    updates: int | None = None
    posts: int | None = None
    arm: Arm = "trained"
    gate: Literal["production", "demo", "open"] = "open"

    def __post_init__(self) -> None:
        if self.updates is None and self.posts is None:
            raise ValueError("a backtest needs an end: a number of updates, of posts, or of both")

    def facts(self) -> dict[str, Any]:
        """As it stands in a report, by which a finished run is known again."""
        return {**asdict(self), "model": self.model.name}


class BacktestError(RuntimeError):
    """A backtest that did not come to what it was asked for."""


def backtest_config(directory: Path, plan: Plan, handles: list[str]) -> VibeBotConfig:
    """The bot of a backtest: some 50 posts a day, half of the 100 that the community bears before it tires.

    It reads seldom and as far back as it answers, and answers one post of everybody who called it or whom it may
    address again, all of a turn in one batch: large batches are written faster, which is why it writes few posts of its
    own. No draft is the reference's: one in twenty would be a batch of its own, and what it is for is what the lift
    measures. Who is answered is not part of what is learnt.

    Of a conversation it reads little: a prompt has room for eighty tokens after the persona and the examples. In
    `default` a third of the prompts of who called showed anything above their post, where two thirds answer one. Every
    draft is read three to five times, once to be written and then to be learnt from.

    It learns as the demo does. Rewards at four hours: by then five sixths of what a post will earn is there, and an
    update learns from what the policy of today wrote and not that of two updates ago.
    """
    settings = time_lapse_config(directory, plan.model)
    settings["persona"] = {**settings["persona"], "adaptive": False}
    settings["model"] = {**settings["model"], "batch_size": MOST_ANSWERED}
    return parse_config(
        {
            **settings,
            "accounts_to_follow": handles,
            "loop": {
                "tl_retrieval_length": 96,
                "tl_retrieval_interval": 480,
                "mentions_interval": 480,
                "own_post_interval": 1440,
                "engagement_retrieval_interval": 240,
                "community_interval": 14 * 1440,
                "ppo_interval": 120,
                "max_target_age": 720,
                "selection_share": 0.9,
                "max_replies_per_turn": MOST_ANSWERED,
                "max_drafts_per_target": 1,
            },
            "safety": {
                "max_posts_per_hour": 300,
                "max_posts_per_day": 2400,
                "author_cooldown": 300,
                "max_replies_per_author": 50,
                "min_pause": 0,
            },
            "ppo": {
                **settings["ppo"],
                "gate": plan.gate,
                "reference_share": 0.0,
                "min_samples": DRAFTS_PER_UPDATE,
                "max_samples": DRAFTS_PER_UPDATE * 3 // 2,
            },
        }
    )


def run(plan: Plan, directory: Path) -> dict[str, Any]:
    """Live through a backtest and write `report.json` and `lift.png` into the directory, the report last and whole.

    Returns:
        The report. Its `failures` name what was wrong; an empty list is a sound run. `lift` is None where the model
        that it started with earns nothing on held-out topics.

    Raises:
        AlreadyRunning: another one works in the directory.
        BacktestError: the world ran out of time before the plan was fulfilled.
        KeyboardInterrupt: on Ctrl-C and on SIGTERM, after everything was ended.
    """
    logs.configure("WARNING")
    end_on_signals()
    console, began = Console(), time.monotonic()
    with alone(directory):
        work = directory / "run"
        _clear(work, directory)

        def config(observer: Observer) -> VibeBotConfig:
            # All of its members: with more to answer, a turn writes more at a time.
            return backtest_config(work, plan, observer.handles(limit=1000))

        with virtual_loop(work, config, community=plan.community, mechanism=plan.mechanism, seed=plan.seed) as loop:
            loop.relabel = _relabel(plan, loop)
            loop.pause("left out of a backtest", LEFT_OUT)
            _live(loop, plan, console)
            found = _report(loop, plan)
        found["seconds"] = round(time.monotonic() - began, 1)
        write(found, directory)
    return found


def write(found: dict[str, Any], directory: Path) -> None:
    """The plot and the report, the latter last and whole."""
    plot(found["curve"], directory / "lift.png")
    aside = directory / f"{REPORT}.part"
    aside.write_text(json.dumps(found, indent=2, ensure_ascii=False))
    aside.replace(directory / REPORT)


def _clear(work: Path, directory: Path) -> None:
    """Begin afresh: a world cannot be taken up where a killed run left it, because its time was in that process."""
    (directory / REPORT).unlink(missing_ok=True)
    EmbeddedPostgres(work / "postgres").erase()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)


def _relabel(plan: Plan, loop: VirtualLoop) -> Relabel | None:
    arms: dict[Arm, Relabel | None] = {
        "trained": None,
        "shuffled": shuffled,
        "oracle": Oracle(loop.bot.db, loop.observer, floor=loop.bot.config.ppo.refused_reward),
    }
    return arms[plan.arm]


def _live(loop: VirtualLoop, plan: Plan, console: Console) -> None:
    """Take turns until the plan is fulfilled."""
    told, last_words = 0, None  # how many runs were told of; when the last post was made
    while not _fulfilled(loop, plan, last_words):
        if clock.now() - START > LONGEST:
            raise BacktestError(
                f"after {LONGEST.days} days of the community only {_posted(loop)} posts were made and "
                f"{applied(loop)} updates applied; see the tables drafts and training_runs"
            )
        loop.step()
        if plan.posts is not None and last_words is None and _posted(loop) >= plan.posts:
            loop.pause("enough was posted", WRITING)
            last_words = clock.now()
        for outcome in loop.learnt[told:]:
            _tell(console, loop, plan, outcome)
        told = len(loop.learnt)


def _fulfilled(loop: VirtualLoop, plan: Plan, last_words: datetime | None) -> bool:
    if plan.updates is not None and applied(loop) >= plan.updates:
        return True
    config = loop.bot.config
    # What was posted last matures, is measured at the next turn, and is learnt from at the next after that.
    rest = config.ppo.reward_age + config.loop.engagement_retrieval_interval + config.loop.ppo_interval
    return last_words is not None and clock.now() > last_words + timedelta(minutes=rest)


def applied(loop: VirtualLoop) -> int:
    """Updates that moved the pointer."""
    return sum(outcome.promoted for outcome in loop.learnt)


def _posted(loop: VirtualLoop) -> int:
    bot_id = loop.bot.config.bot_id
    with loop.bot.db.transaction() as session:
        statement = select(func.count()).where(Post.bot_id == bot_id, Post.state == PostState.POSTED)
        return session.execute(statement).scalar_one()


def _tell(console: Console, loop: VirtualLoop, plan: Plan, outcome: RunOutcome) -> None:
    day = (clock.now() - START) / timedelta(days=1)
    what = f"update {applied(loop)}" if outcome.promoted else f"no update ({outcome.reason})"
    kl = outcome.metrics.get("objective/kl", 0.0)
    console.print(
        f"seed {plan.seed}, {plan.arm}: day {day:.1f}, {what}, {_posted(loop)} posts, {outcome.samples} samples, "
        f"KL {kl:.2f}",
        highlight=False,
    )


def _report(loop: VirtualLoop, plan: Plan) -> dict[str, Any]:
    bot = loop.bot
    with loop.timed("lift"):
        lift = Measurement(bot.config, bot.db, loop.observer, bot.author.model).run()
    with bot.db.transaction() as session:
        spent = select(func.sum(LedgerEntry.cost_usd)).where(LedgerEntry.bot_id == BOT_ID)
        usd = session.execute(spent).scalar_one()
    safety = safety_figures(loop.observer.get("judgement")) | {"held_out": said_at_last(lift)}
    counted = report(bot.db, BOT_ID, loop.observer, 0.0)
    return {
        "plan": plan.facts(),
        "rules": FILTER_VERSION,
        "prompts": PROMPT_VERSION,
        "world_days": round((clock.now() - START) / timedelta(days=1), 2),
        **counted,
        "updates": applied(loop),
        "runs": [
            {
                "promoted": outcome.promoted,
                "state": str(outcome.state),
                "reason": outcome.reason,
                "samples": outcome.samples,
                "kl": outcome.metrics.get("objective/kl"),
                "ess": outcome.metrics.get("ppo/ess"),
            }
            for outcome in loop.learnt
        ],
        "usd": float(usd or 0),  # by our ledger, on the tier of the config
        "usd_at_list_price": loop.observer.get("summary")["usd"],
        "refused_share": counted["refused"] / counted["drafted"] if counted["drafted"] else None,
        "safety": safety,
        **lift,
        "seconds_by_part": {
            name: {"wall": round(wall, 1), "processor": round(processor, 1)}
            for name, (wall, processor) in sorted(loop.seconds.items())
        },
    }


def said_at_last(lift: Mapping[str, Any]) -> dict[str, Any] | None:
    """What of the last checkpoint's drafts on held-out topics the sandbox finds hostile."""
    said: dict[str, Any] | None = lift["curve"][-1]["said"] if lift["curve"] else None
    return said


def show(console: Console, found: dict[str, Any], directory: Path) -> None:
    """Print a report for a person."""
    table = Table(title="The backtest")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in found.items():
        if name not in {"failures", "curve", "runs", "plan", "safety"}:
            table.add_row(name, str(value))
    console.print(table)
    show_safety(console, found)
    show_curve(console, found["curve"])
    for failure in found["failures"]:
        console.print(f"[red]✗ {failure}[/]", highlight=False)
    console.print(f"The report is in {directory / REPORT}")
