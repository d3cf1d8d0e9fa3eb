"""The loops of a bot and how often each has its turn. Light, because beat and the command line read it too."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from app.config import LoopConfig


class LoopName(StrEnum):
    """In the order of the pipeline, by which virtual time goes (`app/local/virtual.py`)."""

    COMMUNITY = "community"
    TIMELINE = "timeline"
    MENTIONS = "mentions"
    GENERATION = "generation"
    OWN_POSTS = "own_posts"
    SUMMARIES = "summaries"
    PUBLISHING = "publishing"
    RECONCILIATION = "reconciliation"
    ENGAGEMENT = "engagement"
    PERSONA = "persona"
    FORGETTING = "forgetting"
    PPO = "ppo"


def interval(loop: LoopName, config: LoopConfig) -> timedelta:
    """World time between two turns of a loop."""
    minutes = {
        LoopName.COMMUNITY: config.community_interval,
        LoopName.TIMELINE: config.tl_retrieval_interval,
        LoopName.MENTIONS: config.mentions_interval,
        # Woken by messages; the interval is how soon a lost message is made good.
        LoopName.GENERATION: min(config.mentions_interval, config.tl_retrieval_interval),
        LoopName.OWN_POSTS: config.own_post_interval,
        LoopName.SUMMARIES: config.community_interval / 4,
        LoopName.PUBLISHING: 1.0,
        LoopName.RECONCILIATION: 2.0,
        LoopName.ENGAGEMENT: config.engagement_retrieval_interval,
        LoopName.PERSONA: config.persona_interval,
        LoopName.FORGETTING: config.vanished_interval,
        LoopName.PPO: config.ppo_interval,
    }
    return timedelta(minutes=minutes[loop])
