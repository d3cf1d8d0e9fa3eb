"""The moment in a post's id. X's ids carry their time of making, in milliseconds since its own epoch.

https://docs.x.com/fundamentals/x-ids
"""

from __future__ import annotations

from datetime import UTC, datetime

EPOCH_MS = 1_288_834_974_657
TIME_SHIFT = 22


def snowflake_time(x_post_id: str) -> datetime:
    """When the post with this id was made.

    Raises:
        ValueError: the id is not a number.
    """
    milliseconds = (int(x_post_id) >> TIME_SHIFT) + EPOCH_MS
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def snowflake_at(moment: datetime) -> str:
    """The least id that a post made at a moment can have; posts made before it have smaller ones."""
    milliseconds = round(moment.timestamp() * 1000) - EPOCH_MS
    return str(max(0, milliseconds) << TIME_SHIFT)
