"""How many requests X allows, as far as is known before its headers have said so.

Source: https://docs.x.com/x-api/fundamentals/rate-limits, user context. What a response header says replaces
these numbers at once (`app/x/windows.py`); they only keep the first minutes polite.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.x.endpoints import Endpoint

QUARTER = 15 * 60
DAY = 24 * 60 * 60
APP = "app"


@dataclass(frozen=True)
class Limit:
    """So many requests per span of seconds, for the account or for the whole app."""

    requests: int
    span_s: int = QUARTER
    app_wide: bool = False


CURRENT: dict[Endpoint, tuple[Limit, ...]] = {
    Endpoint.HOME_TIMELINE: (Limit(180),),
    Endpoint.USER_POSTS: (Limit(900),),
    Endpoint.MENTIONS: (Limit(300),),
    Endpoint.FOLLOWING: (Limit(300),),
    Endpoint.POSTS: (Limit(5000),),
    Endpoint.ANALYTICS: (Limit(300),),
    Endpoint.SEARCH: (Limit(300),),
    Endpoint.QUOTES: (Limit(75),),
    Endpoint.LIKERS: (Limit(75),),
    Endpoint.REPOSTERS: (Limit(75),),
    Endpoint.USERS: (Limit(900),),
    Endpoint.USERS_BY: (Limit(900),),
    Endpoint.ME: (Limit(75),),
    Endpoint.FOLLOW: (Limit(50),),
    Endpoint.CREATE_POST: (Limit(100), Limit(10_000, DAY, app_wide=True)),
    Endpoint.DELETE_POST: (Limit(50),),
}

# The old Basic plan, which some accounts still have.
BASIC: dict[Endpoint, tuple[Limit, ...]] = {
    Endpoint.HOME_TIMELINE: (Limit(5),),
    Endpoint.USER_POSTS: (Limit(5),),
    Endpoint.MENTIONS: (Limit(10),),
    Endpoint.FOLLOWING: (Limit(5),),
    Endpoint.POSTS: (Limit(15),),
    Endpoint.ANALYTICS: (Limit(5),),
    Endpoint.SEARCH: (Limit(60),),
    Endpoint.QUOTES: (Limit(5),),
    Endpoint.LIKERS: (Limit(5),),
    Endpoint.REPOSTERS: (Limit(5),),
    Endpoint.USERS: (Limit(100, DAY),),
    Endpoint.USERS_BY: (Limit(100, DAY),),
    Endpoint.ME: (Limit(250, DAY),),
    Endpoint.FOLLOW: (Limit(5),),
    Endpoint.CREATE_POST: (Limit(100, DAY), Limit(1667, DAY, app_wide=True)),
    Endpoint.DELETE_POST: (Limit(5),),
}


def limits_of(tier: str, endpoint: Endpoint) -> tuple[Limit, ...]:
    """The limits to begin with on an access tier."""
    return (BASIC if tier == "basic" else CURRENT)[endpoint]
