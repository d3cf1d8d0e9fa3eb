"""Stories: what happened, of which several members write at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from app.sandbox.chance import key, uniform
from app.sandbox.communityfile import CommunityFile

HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Story:
    """Something that happened: everybody who writes on it names the same facts."""

    topic: str
    facts: int
    broke: datetime

    def attention(self, at: datetime, half_life: timedelta) -> float:
        """0 before it broke, up to 1 an hour after, then fading by half every half-life."""
        age = (at - self.broke) / HOUR
        return 0.0 if age <= 0 else min(1.0, age) * 0.5 ** (max(0.0, age - 1.0) * HOUR / half_life)


def stories(file: CommunityFile, seed: int, at: datetime) -> list[tuple[Story, float]]:
    """Stories with any attention left, and how much of it."""
    half_life = timedelta(hours=file.rhythm.news_half_life_hours)
    span = timedelta(hours=file.rhythm.news_every_hours)
    current = int(at.timestamp() // span.total_seconds())
    found = []
    for topic in file.topics:
        for number in range(current - 2, current + 1):
            moment = (number + uniform(seed, "story", topic, number)) * span.total_seconds()
            story = Story(topic, key(seed, "facts", topic, number), datetime.fromtimestamp(moment, at.tzinfo))
            attention = story.attention(at, half_life)
            if attention > 0.02:
                found.append((story, attention))
    return found
