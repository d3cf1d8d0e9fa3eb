"""Which logged drafts a run learns from, and which it never may: those are the gate's."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Select, select
from sqlalchemy.orm import Session

from app.config import VibeBotConfig
from app.learning.features import encode, facts_of
from app.learning.gate import Profile
from app.learning.reward import reward_version
from app.learning.samples import POLICY, REFERENCE, Sample
from app.policy import registry
from app.policy.roots import Root
from app.readiness import HELD_OUT_SHARE
from app.text import mentions
from dbs.models import Checkpoint, Community, Draft, DraftSample, Reward, TimelinePost, TrainingRun, TrainingSample
from dbs.states import CheckpointState

SPARE = 2.0  # held-out drafts per effective one: a sound candidate left 0.5 to 0.8 of them


@dataclass(frozen=True)
class Logged:
    """A rewarded draft with all that learning and the gate need of it. `fresh`: no run has taken it up yet."""

    sample: Sample
    author_id: uuid.UUID
    outcome: float  # weighted engagement; 0 for a refused draft
    measured: bool
    fresh: bool
    kind: str
    source_texts: tuple[str, ...]
    allowed_handles: frozenset[str]


@dataclass(frozen=True)
class Dataset:
    """What there is to learn from, the newest first, and what is held out for the gate."""

    training: list[Logged]
    held_out: list[Logged]
    stacks: dict[uuid.UUID, registry.Stack]  # adapters of each author whose files still exist

    def too_little(self, config: VibeBotConfig) -> str | None:
        """Why a run on the training part is not worth its time yet, or None if it is."""
        fresh = sum(logged.fresh for logged in self.training)
        measured = sum(logged.measured for logged in self.training)
        least = config.ppo.min_samples
        if fresh < least:
            return f"{fresh} fresh rewarded drafts, {least} are needed"
        if measured < least // 2:
            return f"{measured} measured posts among the drafts, {least // 2} are needed"
        return None

    def too_little_held_out(self, profile: Profile) -> str | None:
        """Why no candidate can be judged yet, or None if one can."""
        spare = round(SPARE * profile.min_ess)
        if len(self.held_out) < spare:
            return f"{len(self.held_out)} held-out drafts, the gate needs about {spare}"
        return None


def is_held_out(draft_id: uuid.UUID) -> bool:
    """Whether a draft is kept for the gate. A matter of its id alone, so no run can ever have trained on it.

    >>> is_held_out(uuid.UUID(int=1)), is_held_out(uuid.UUID(int=3))
    (False, False)
    """
    return hashlib.sha256(draft_id.bytes).digest()[0] < 256 * HELD_OUT_SHARE


def gather(session: Session, root: Root, config: VibeBotConfig, profile: Profile) -> Dataset:
    """Read the newest rewarded drafts of the current base: at most `max_samples`, and the gate's number held out.

    Raises:
        CheckpointError: the bot has no current checkpoint.
    """
    current, reference = registry.current(session, config.bot_id), registry.reference(session, config.bot_id)
    if current is None or reference is None:
        raise registry.UnknownCheckpointError(f"bot {config.bot_id} has no current checkpoint; start generation once")
    names = {reference.checkpoint_id: REFERENCE, current.checkpoint_id: POLICY}
    training: list[Logged] = []
    held_out: list[Logged] = []
    for row in session.execute(_rewarded(config, current.base_hash), execution_options={"yield_per": 500}):
        if len(training) >= config.ppo.max_samples and len(held_out) >= profile.held_out:
            break
        kept_apart = is_held_out(row.Draft.draft_id)
        target, most = (held_out, profile.held_out) if kept_apart else (training, config.ppo.max_samples)
        if len(target) < most and (kept_apart or not row.consumed):
            target.append(_logged(row, names))
    authors = {logged.author_id for logged in (*training, *held_out)}
    return Dataset(training, held_out, _stacks(session, root, authors))


def _rewarded(config: VibeBotConfig, base_hash: str) -> Select[*tuple[Any, ...]]:
    """Rewarded drafts of authors on this base, the newest first, with what became of them and what they answer."""
    taken_up = select(TrainingSample.draft_id).join(TrainingRun, TrainingRun.run_id == TrainingSample.run_id)
    # What became of a run's checkpoint decides: a candidate that was refused taught the bot nothing.
    consumed = taken_up.join(Checkpoint, Checkpoint.checkpoint_id == TrainingRun.checkpoint_id).where(
        TrainingSample.held_out.is_(False), Checkpoint.state.in_([CheckpointState.SERVED, CheckpointState.CANARY])
    )
    return (
        select(
            Draft,
            DraftSample,
            Reward,
            Draft.draft_id.in_(consumed).label("consumed"),
            Draft.draft_id.not_in(taken_up).label("fresh"),
            TimelinePost.text.label("target_text"),
            Community.handle.label("target_handle"),
        )
        .join(DraftSample, DraftSample.draft_id == Draft.draft_id)
        .join(Reward, Reward.draft_id == Draft.draft_id)
        .join(Checkpoint, Checkpoint.checkpoint_id == Draft.checkpoint_id)
        .outerjoin(
            TimelinePost, (TimelinePost.bot_id == Draft.bot_id) & (TimelinePost.x_post_id == Draft.target_post_id)
        )
        .outerjoin(Community, Community.user_id == Draft.target_author_id)
        .where(
            Draft.bot_id == config.bot_id,
            Draft.edited.is_(False),
            Reward.reward_version == reward_version(config.ppo),
            Checkpoint.base_hash == base_hash,
        )
        .order_by(Draft.created_at.desc(), Draft.draft_id)
    )


def _logged(row: Row[Any], names: dict[uuid.UUID, str]) -> Logged:
    draft, sample, reward = row.Draft, row.DraftSample, row.Reward
    return Logged(
        sample=Sample(
            draft_id=draft.draft_id,
            prompt_ids=sample.prompt_token_ids,
            output_ids=sample.output_token_ids,
            behaviour_logprobs=sample.logprobs,
            temperature=draft.temperature,
            reward=reward.reward,
            features=encode([facts_of(draft)])[0],
            author=names.get(draft.checkpoint_id, str(draft.checkpoint_id)),
        ),
        author_id=draft.checkpoint_id,
        outcome=reward.engagement or 0.0,
        measured=reward.engagement is not None,
        fresh=row.fresh,
        kind=draft.kind,
        source_texts=(row.target_text,) if row.target_text else (),
        allowed_handles=frozenset(
            name.lower() for name in (row.target_handle, *mentions(row.target_text or "")) if name
        ),
    )


def _stacks(session: Session, root: Root, authors: set[uuid.UUID]) -> dict[uuid.UUID, registry.Stack]:
    """Adapters of each author; one whose files were pruned is left out."""
    rows = session.scalars(
        select(Checkpoint).where(Checkpoint.checkpoint_id.in_(authors), Checkpoint.pruned_at.is_(None))
    )
    stacks = {row.checkpoint_id: registry.stack(root, row) for row in rows}
    return {author: stack for author, stack in stacks.items() if all(path.is_dir() for _, path in stack)}
