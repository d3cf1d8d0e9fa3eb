"""Learning: rewards by checkpoint with their intervals, runs, verdicts of the gate with samples, and the way back."""

from __future__ import annotations

import uuid
from collections import defaultdict
from math import sqrt
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import Integer, func, select

from app import events
from app.console import charts
from app.console.charts import Measured
from app.console.rendering import bot_of, render
from app.console.security import OwnForm, SignedIn
from app.context import BotContext
from app.policy import registry
from app.policy.checkpoints import CheckpointError
from app.policy.roots import root_of
from app.reloading import announce
from app.shared_files import SharedFilesError
from dbs.models import Checkpoint, Draft, GateVerdict, Reward, TrainingRun
from dbs.states import DraftState

router = APIRouter(prefix="/learning")

RUNS = 20
CHECKPOINTS = 30  # the newest that were served
RUN_METRICS = (
    "objective/kl", "ppo/ess", "data/samples", "data/reward_mean", "data/output_tokens", "dpo/margin_after",
    "dpo/accuracy_after",
)  # fmt: skip


@router.get("", dependencies=[SignedIn])
def page(request: Request) -> Response:
    bot = bot_of(request)
    bot_id = bot.config.bot_id
    with bot.db.transaction() as session:
        checkpoints = registry.listing(session, bot_id)
        verdicts: dict[uuid.UUID, list[GateVerdict]] = defaultdict(list)
        for verdict in session.scalars(select(GateVerdict).where(GateVerdict.bot_id == bot_id)):
            verdicts[verdict.checkpoint_id].append(verdict)
        runs = session.scalars(
            select(TrainingRun).where(TrainingRun.bot_id == bot_id).order_by(TrainingRun.started_at.desc()).limit(RUNS)
        ).all()
    return render(
        request,
        "learning.html",
        checkpoints=list(checkpoints)[::-1],
        verdicts=verdicts,
        runs=runs,
        run_metrics=RUN_METRICS,
        rewards=_rewards(bot),
        current=next((row for row in checkpoints if row.is_current), None),
    )


@router.get("/checkpoints/{checkpoint_id}", dependencies=[SignedIn])
def checkpoint(request: Request, checkpoint_id: uuid.UUID) -> Response:
    """One checkpoint: its manifest, and each verdict with what both sides wrote to the same prompts."""
    bot = bot_of(request)
    try:
        with bot.db.transaction() as session:
            row = registry.get(session, bot.config.bot_id, checkpoint_id)
            verdicts = session.scalars(select(GateVerdict).where(GateVerdict.checkpoint_id == checkpoint_id)).all()
    except CheckpointError as error:
        raise HTTPException(404, str(error)) from None
    return render(request, "checkpoint.html", row=row, verdicts=verdicts)


@router.post("/checkpoints/{checkpoint_id}/promote", dependencies=[OwnForm])
def promote(request: Request, checkpoint_id: uuid.UUID) -> Response:
    """Serve a checkpoint by hand, whatever the gate said. The running bot writes with it from its next batch."""
    bot = bot_of(request)
    _move(bot, "promote", lambda session, root: registry.promote(session, root, bot.config.bot_id, checkpoint_id))
    return RedirectResponse("/learning", 303)


@router.post("/rollback", dependencies=[OwnForm])
def rollback(request: Request) -> Response:
    """Serve the parent of what is served now; what is left counts as refused."""
    bot = bot_of(request)
    _move(bot, "rollback", lambda session, root: registry.rollback(session, root, bot.config.bot_id))
    return RedirectResponse("/learning", 303)


@router.get("/rewards.svg", dependencies=[SignedIn])
def rewards_chart(request: Request) -> Response:
    rows = _rewards(bot_of(request))
    points = [Measured(row["label"], row["mean"], row["low"], row["high"]) for row in rows]
    return charts.svg(charts.intervals("Reward by checkpoint, with its 95 % interval", points))


@router.get("/rewards.csv", dependencies=[SignedIn])
def rewards_table(request: Request) -> Response:
    columns = ("checkpoint_id", "kind", "drafts", "mean", "low", "high", "words", "refused")
    rows = [[point[column] for column in columns] for point in _rewards(bot_of(request))]
    return charts.csv(columns, rows, "rewards.csv")


def _move(bot: BotContext, action: str, how: Any) -> None:
    try:
        with bot.db.transaction() as session:
            row: Checkpoint = how(session, root_of(bot.config))
            events.record(session, bot.config.bot_id, f"console.{action}", str(row.checkpoint_id))
    except (CheckpointError, SharedFilesError) as error:
        raise HTTPException(409, str(error)) from None
    announce()


def _rewards(bot: BotContext) -> list[dict[str, Any]]:
    """Mean reward of each served checkpoint's drafts, refused ones too, with a normal interval: oldest first.

    Rewards are in deviations of a window that moves on with the bot, so that what is compared fairly are neighbours.
    """
    words = func.array_length(func.regexp_split_to_array(Draft.content, r"\s+"), 1)
    statement = (
        select(
            Checkpoint,
            func.count(),
            func.avg(Reward.reward),
            func.stddev_samp(Reward.reward),
            func.avg(words),
            func.avg((Draft.state == DraftState.REJECTED).cast(Integer)),
        )
        .join(Draft, Draft.checkpoint_id == Checkpoint.checkpoint_id)
        .join(Reward, Reward.draft_id == Draft.draft_id)
        .where(Checkpoint.bot_id == bot.config.bot_id)
        .group_by(Checkpoint.checkpoint_id)
        .order_by(Checkpoint.created_at.desc())
        .limit(CHECKPOINTS)
    )
    with bot.db.transaction() as session:
        rows = session.execute(statement).all()
    points = []
    for row, count, mean, deviation, length, refused in reversed(rows):
        half = 1.96 * float(deviation or 0) / sqrt(count)
        points.append(
            {
                "checkpoint_id": str(row.checkpoint_id),
                "label": f"{row.kind} {str(row.checkpoint_id)[:6]}",
                "kind": row.kind,
                "drafts": count,
                "mean": float(mean),
                "low": float(mean) - half,
                "high": float(mean) + half,
                "words": float(length or 0),
                "refused": float(refused),
            }
        )
    return points
