"""Whether a run of PPO or DPO is worth a process of its own: one count, which an I/O worker can make.

The training node starts a process and imports torch for every task; a day of ticks without new data must cost neither.
The run itself looks again, and closer, at what it may learn from.
"""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app import clock
from app.config import VibeBotConfig
from app.leases import TRAINING_LEASE
from app.safety import TEXT_RULES
from dbs.models import Draft, DraftSample, Engagement, Lease, Post, Preference, TrainingSample
from dbs.states import DraftState, PostState, SentBy

# The share of drafts that is kept for the gate and never trained on.
HELD_OUT_SHARE = 0.2


def is_training(session: Session, bot_id: str) -> bool:
    """Whether a run holds the training lease: another one would only start to find it taken."""
    lease = session.get(Lease, (bot_id, TRAINING_LEASE))
    return lease is not None and lease.expires_at > clock.wall_now()


def fresh_drafts(session: Session, config: VibeBotConfig) -> int:
    """Drafts that no run has taken up yet: those whose text was refused, or whose post was measured at the reward age.

    One whose prompt was forgotten has no sample any more, and nothing can be learnt from it.
    """
    taken = select(TrainingSample.draft_id).where(TrainingSample.draft_id == Draft.draft_id).exists()
    sampled = select(DraftSample.draft_id).where(DraftSample.draft_id == Draft.draft_id).exists()
    matured = (
        select(Post.draft_id)
        .join(Engagement, Engagement.post_id == Post.post_id)
        .where(
            Post.draft_id == Draft.draft_id,
            Post.state == PostState.POSTED,
            Post.sent_by == SentBy.BOT,
            Engagement.planned_age_s >= config.ppo.reward_age * 60,
        )
        .exists()
    )
    statement = select(func.count()).where(
        Draft.bot_id == config.bot_id,
        Draft.edited.is_(False),
        ~taken,
        sampled,
        ((Draft.state == DraftState.REJECTED) & Draft.reject_rule.in_(TEXT_RULES)) | matured,
    )
    return session.execute(statement).scalar_one()


def fresh_choices(session: Session, config: VibeBotConfig) -> int:
    """Choices between two drafts that no run has taken up yet."""
    statement = select(func.count()).where(Preference.bot_id == config.bot_id, Preference.run_id.is_(None))
    return session.execute(statement).scalar_one()


def is_worth_a_dpo_run(session: Session, config: VibeBotConfig) -> bool:
    """Whether no run is under way and persons have chosen often enough."""
    return not is_training(session, config.bot_id) and fresh_choices(session, config) >= config.dpo.min_pairs


def is_worth_a_run(session: Session, config: VibeBotConfig) -> bool:
    """Whether no run is under way and there is, most likely, enough that PPO may train on."""
    wanted = config.ppo.min_samples / (1 - HELD_OUT_SHARE)
    return not is_training(session, config.bot_id) and fresh_drafts(session, config) >= wanted
