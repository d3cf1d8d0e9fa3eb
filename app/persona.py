"""The persona as versions in the database: every process sees the same one, and drafts name theirs.

Version 1 comes from the config. A changed config, a person, or an adaptive revision adds the next one; nothing is
overwritten, so any version can be taken back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app import clock, events
from app.config import PersonaConfig, VibeBotConfig
from app.text import canonical
from dbs.models import Draft, PersonaVersion, Reward
from dbs.states import PersonaState

# An adaptive revision may move a little at a time and never away from what the operator wrote.
MIN_REWARDED_POSTS = 30
MAX_EXTRA_INTERESTS = 3
TONE_MARK = "; lately it "


class Origin(StrEnum):
    CONFIG = "config"
    PERSON = "person"
    ADAPTIVE = "adaptive"


@dataclass(frozen=True)
class Evidence:
    """What a revision was based on: the mean reward with and without each trait, and how many drafts."""

    drafts: int
    tone_gain: dict[str, float]
    topic_gain: dict[str, float]


def current(session: Session, bot_id: str) -> PersonaVersion:
    """The persona that the bot writes in now.

    Raises:
        LookupError: the bot has none; `ensure` gives it one.
    """
    row = session.scalars(
        select(PersonaVersion).where(PersonaVersion.bot_id == bot_id, PersonaVersion.state == PersonaState.CURRENT)
    ).one_or_none()
    if row is None:
        raise LookupError(f"bot {bot_id!r} has no persona yet; start it once with its config")
    return row


def as_config(version: PersonaVersion, *, adaptive: bool) -> PersonaConfig:
    return PersonaConfig(
        name=version.name,
        description=version.description,
        tone=version.tone,
        interests=list(version.interests),
        adaptive=adaptive,
    )


def ensure(session: Session, config: VibeBotConfig) -> PersonaVersion:
    """Make the configured persona current unless it, or a revision of it, already is."""
    configured = session.scalars(
        select(PersonaVersion)
        .where(PersonaVersion.bot_id == config.bot_id, PersonaVersion.origin == Origin.CONFIG)
        .order_by(PersonaVersion.version.desc())
        .limit(1)
    ).one_or_none()
    if configured is not None and _same(configured, config.persona):
        return current(session, config.bot_id)
    return set_current(session, config.bot_id, config.persona, Origin.CONFIG)


def _same(version: PersonaVersion, persona: PersonaConfig) -> bool:
    return (version.name, version.description, version.tone, list(version.interests)) == (
        persona.name,
        persona.description,
        persona.tone,
        persona.interests,
    )


def set_current(
    session: Session, bot_id: str, persona: PersonaConfig, origin: Origin, evidence: dict[str, Any] | None = None
) -> PersonaVersion:
    """Add a version and make it current."""
    # Two writers would both take the next number; the lock lets the second see the first.
    session.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"persona:{bot_id}"))))
    versions = session.scalars(select(PersonaVersion).where(PersonaVersion.bot_id == bot_id)).all()
    parent = next((version for version in versions if version.state == PersonaState.CURRENT), None)
    if parent is not None:
        parent.state = PersonaState.SUPERSEDED
        session.flush()
    row = PersonaVersion(
        bot_id=bot_id,
        version=1 + max((version.version for version in versions), default=0),
        name=persona.name,
        description=persona.description,
        tone=persona.tone,
        interests=persona.interests,
        parent_version=parent.version if parent else None,
        origin=origin,
        evidence=evidence,
        state=PersonaState.CURRENT,
        created_at=clock.now(),
    )
    session.add(row)
    events.record(session, bot_id, "persona.set", str(row.version), origin=origin.value)
    session.flush()
    return row


def refuse(session: Session, bot_id: str, version: int) -> PersonaVersion:
    """Take a version back, for good: its parent becomes current if it was, and no revision repeats it.

    Raises:
        LookupError: there is no such version, or it has no parent to go back to.
    """
    row = session.get(PersonaVersion, (bot_id, version))
    if row is None:
        raise LookupError(f"bot {bot_id!r} has no persona version {version}")
    if row.parent_version is None:
        raise LookupError(f"persona version {version} is the first; change the config instead")
    was_current = row.state == PersonaState.CURRENT
    row.state = PersonaState.REFUSED
    session.flush()
    parent = session.get_one(PersonaVersion, (bot_id, row.parent_version))
    if was_current:
        parent.state = PersonaState.CURRENT
    events.record(session, bot_id, "persona.refused", str(version))
    return parent if was_current else current(session, bot_id)


def revise(session: Session, config: VibeBotConfig) -> PersonaVersion | None:
    """Revise tone and interests from what earned most lately, if the config allows and the evidence does.

    Name, description and every configured interest stay. At most one habit of tone, and at most three further
    interests taken from topics that earned above the mean, are added to what the operator wrote.
    """
    if not config.persona.adaptive:
        return None
    now_current = current(session, config.bot_id)
    rows = session.execute(
        select(Draft.content, Draft.topic, Reward.reward)
        .join(Reward, Reward.draft_id == Draft.draft_id)
        .where(Draft.bot_id == config.bot_id, Draft.created_at > clock.now() - timedelta(days=30))
        .where(Reward.engagement.is_not(None))
    ).all()
    if len(rows) < MIN_REWARDED_POSTS:
        return None
    evidence = weigh([(content, topic, reward) for content, topic, reward in rows])
    revised = bounded(config.persona, evidence)
    if _same(now_current, revised) or _was_refused(session, config.bot_id, revised):
        return None
    facts = {"drafts": evidence.drafts, "tone_gain": evidence.tone_gain, "topic_gain": evidence.topic_gain}
    return set_current(session, config.bot_id, revised, Origin.ADAPTIVE, evidence=facts)


def _was_refused(session: Session, bot_id: str, persona: PersonaConfig) -> bool:
    refused = session.scalars(
        select(PersonaVersion).where(PersonaVersion.bot_id == bot_id, PersonaVersion.state == PersonaState.REFUSED)
    )
    return any(_same(version, persona) for version in refused)


def weigh(rows: list[tuple[str, str | None, float]]) -> Evidence:
    """Mean reward of drafts with each habit minus that of drafts without, and of each topic minus the mean.

    Args:
        rows: (content, topic or None, reward) of each rewarded draft.
    """
    words = sorted(len(content.split()) for content, _, _ in rows)
    median = words[len(words) // 2]
    habits: dict[str, Callable[[str], bool]] = {
        "asks questions": lambda text: "?" in text,
        "names particulars": lambda text: any(char.isdigit() for char in text),
        "keeps it short": lambda text: len(text.split()) < median,
        "takes its time": lambda text: len(text.split()) > median,
    }
    tone_gain = {}
    for habit, shows in habits.items():
        having = [reward for content, _, reward in rows if shows(content)]
        lacking = [reward for content, _, reward in rows if not shows(content)]
        if min(len(having), len(lacking)) >= MIN_REWARDED_POSTS // 3:
            tone_gain[habit] = sum(having) / len(having) - sum(lacking) / len(lacking)
    mean = sum(reward for _, _, reward in rows) / len(rows)
    counts = Counter(topic for _, topic, _ in rows if topic)
    topic_gain = {
        topic: sum(reward for _, other, reward in rows if other == topic) / count - mean
        for topic, count in counts.items()
        if count >= 3
    }
    return Evidence(drafts=len(rows), tone_gain=tone_gain, topic_gain=topic_gain)


def bounded(configured: PersonaConfig, evidence: Evidence) -> PersonaConfig:
    """The configured persona with the best habit and the best topics added, where they gained at all."""
    best_habit = max(evidence.tone_gain, key=lambda habit: evidence.tone_gain[habit], default=None)
    tone = configured.tone
    if best_habit is not None and evidence.tone_gain[best_habit] > 0:
        tone = f"{configured.tone}{TONE_MARK}{best_habit}"
    known = {canonical(interest) for interest in configured.interests}
    gained = sorted(
        (topic for topic, gain in evidence.topic_gain.items() if gain > 0 and canonical(topic) not in known),
        key=lambda topic: -evidence.topic_gain[topic],
    )
    interests = configured.interests + gained[:MAX_EXTRA_INTERESTS]
    return configured.model_copy(update={"tone": tone, "interests": interests[:20]})
