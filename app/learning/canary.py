"""The canary: a candidate that passed the gate writes half of the posts until one side is clearly ahead.

The interval is an asymptotic confidence sequence: it holds at every look at once, so that looking after each post and
stopping when it pays is no cheat (Waudby-Smith et al. 2021, arXiv 2103.06476, theorem 2.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app import clock, events
from app.config import VibeBotConfig
from app.learning.features import Array
from app.learning.reward import reward_version
from app.leases import Lease
from app.policy import registry
from app.policy.roots import Root
from dbs.models import Draft, GateVerdict, Reward
from dbs.states import Arm, CheckpointState

ALPHA = 0.1  # chance that the sequence of intervals ever misses the truth
TIGHTEST_AT = 300  # posts at which the sequence is tuned to be narrowest
MIN_PER_ARM = 30  # posts of each arm before the normal limit means anything


class Ruling(StrEnum):
    CONTINUE = "continue"
    PROMOTE = "promote"
    WITHDRAW = "withdraw"


@dataclass(frozen=True)
class Outcome:
    """A reward of one of the two arms, in the order in which the posts were written."""

    canary: bool
    reward: float


@dataclass(frozen=True)
class Decision:
    """What to do with the canary, on what evidence. The interval is of the mean reward, canary minus incumbent."""

    ruling: Ruling
    reason: str
    posts: int
    difference: float
    lower: float
    upper: float


def decide(
    outcomes: Sequence[Outcome], *, began: datetime, now: datetime, longest: timedelta, chance: float = 0.5
) -> Decision:
    """Rule on a canary by all posts since it began.

    Args:
        chance: the chance with which a post of the two arms was the canary's, as assigned.
        longest: after this long the gate's verdict stands, if nothing speaks against the canary.
    """
    posts = len(outcomes)
    effects = randomised_effects(outcomes, chance)
    difference = float(effects.mean()) if posts else 0.0
    fewest = min(sum(outcome.canary for outcome in outcomes), sum(not outcome.canary for outcome in outcomes))
    width = half_width(effects) if fewest >= MIN_PER_ARM else math.inf
    lower, upper = difference - width, difference + width
    if upper < 0:
        ruling, reason = Ruling.WITHDRAW, "it earns less than the incumbent"
    elif lower > 0:
        ruling, reason = Ruling.PROMOTE, "it earns more than the incumbent"
    elif now - began >= longest:
        ruling, reason = (
            Ruling.PROMOTE,
            "nothing spoke against it in the longest time: the gate's pass stands",
        )
    else:
        ruling, reason = Ruling.CONTINUE, "neither side is clearly ahead"
    return Decision(ruling, reason, posts, difference, lower, upper)


def randomised_effects(outcomes: Sequence[Outcome], chance: float) -> Array:
    """One unbiased estimate of the difference per post: ±(reward − mean of the rewards before) / chance of its arm.

    Subtracting what was known before keeps it unbiased and takes the common level out of its variance.
    """
    effects = np.empty(len(outcomes))
    total = 0.0
    for i, outcome in enumerate(outcomes):
        rest = outcome.reward - (total / i if i else 0.0)
        effects[i] = rest / chance if outcome.canary else -rest / (1 - chance)
        total += outcome.reward
    return effects


def half_width(effects: Array, alpha: float = ALPHA, tightest_at: int = TIGHTEST_AT) -> float:
    """Half-width of the confidence sequence of a mean: σ √(2 (nρ² + 1) / (n²ρ²) · log(√(nρ² + 1) / α))."""
    n = len(effects)
    rho2 = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / tightest_at
    spread = n * rho2 + 1
    return float(effects.std()) * math.sqrt(2 * spread / (n**2 * rho2) * math.log(math.sqrt(spread) / alpha))


def rule(session: Session, root: Root, config: VibeBotConfig, lease: Lease) -> Decision | None:
    """Decide on the canary that is being tried, in the caller's transaction; None if there is none."""
    row = registry.canary(session, config.bot_id)
    if row is None:
        return None
    verdict = select(func.max(GateVerdict.judged_at)).where(GateVerdict.checkpoint_id == row.checkpoint_id)
    began, now = session.scalars(verdict).one() or row.created_at, clock.now()
    decision = decide(
        _outcomes(session, config, began, now),
        began=began,
        now=now,
        longest=timedelta(minutes=config.ppo.canary_longest),
    )
    if decision.ruling == Ruling.CONTINUE:
        return decision
    if decision.ruling == Ruling.PROMOTE:
        registry.promote(session, root, config.bot_id, row.checkpoint_id, lease=lease)
    else:
        row.state = CheckpointState.REFUSED
    facts = {"ruling": decision.ruling, "reason": decision.reason, "posts": decision.posts}
    events.record(session, config.bot_id, "canary.ended", str(row.checkpoint_id), **facts, lift=decision.difference)
    return decision


def _outcomes(session: Session, config: VibeBotConfig, began: datetime, now: datetime) -> list[Outcome]:
    """Rewards of both arms since the canary began, in the order of writing.

    Only of drafts old enough to have been measured: a refusal is known at once, and would come too early.
    """
    rows = session.execute(
        select(Draft.arm, Reward.reward)
        .join(Reward, Reward.draft_id == Draft.draft_id)
        .where(
            Draft.bot_id == config.bot_id,
            Draft.created_at >= began,
            Draft.created_at <= now - timedelta(minutes=config.ppo.reward_age),
            Draft.arm.in_([Arm.INCUMBENT, Arm.CANARY]),
            Draft.edited.is_(False),
            Reward.reward_version == reward_version(config.ppo),
        )
        .order_by(Draft.created_at, Draft.draft_id)
    )
    return [Outcome(canary=arm == Arm.CANARY, reward=reward) for arm, reward in rows]
