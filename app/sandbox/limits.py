"""Rate limits in world time, with X's headers: 15 minutes and 24 hours, by endpoint, access tier and kind of token.

Numbers: https://docs.x.com/x-api/fundamentals/rate-limits for pay per use and Pro, the older plans' tables for Basic
and Free, https://docs.x.com/x-api/getting-started/pricing for the posts that may be read in a month. Enterprise limits
are set by contract; here they are those of Pro, with no end to a month.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from app.sandbox.auth import Context
from app.sandbox.problems import PROBLEMS, Json
from app.sandbox.settings import Settings, Tier
from app.sandbox.store import Store, Window

WINDOW_MS = 15 * 60 * 1000
DAY_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True)
class Allowance:
    """Requests to one endpoint.

    Attributes:
        user, app: in 15 minutes, with a user's tokens or with the app's own.
        user_day, app_day: in 24 hours, of one user, and of the app with whatever tokens.
    """

    user: int | None = None
    app: int | None = None
    user_day: int | None = None
    app_day: int | None = None


CURRENT = {
    "create_post": Allowance(user=100, user_day=10_000, app_day=10_000),
    "delete_post": Allowance(user=50),
    "analytics": Allowance(user=300),
    "posts_by_ids": Allowance(user=5000, app=3500),
    "post_by_id": Allowance(user=900, app=450),
    "liking_users": Allowance(user=75),
    "retweeted_by": Allowance(user=75, app=75),
    "quote_posts": Allowance(user=75, app=75),
    "search_recent": Allowance(user=300, app=450),
    "home_timeline": Allowance(user=180),
    "posts_of_user": Allowance(user=900, app=10_000),
    "mentions": Allowance(user=300, app=450),
    "me": Allowance(user=75),
    "users_by_handles": Allowance(user=900, app=300),
    "user_by_handle": Allowance(user=900, app=300),
    "users_by_ids": Allowance(user=900, app=300),
    "user_by_id": Allowance(user=900, app=300),
    "following": Allowance(user=300, app=300),
    "followers": Allowance(user=300, app=300),
    "follow": Allowance(user=50),
    "unfollow": Allowance(user=50),
}
LOOK_UP_OF_USERS = ("users_by_handles", "user_by_handle", "users_by_ids", "user_by_id")
BASIC = {
    "create_post": Allowance(user_day=100, app_day=1667),
    "posts_by_ids": Allowance(user=15, app=15),
    "post_by_id": Allowance(user=15, app=15),
    "search_recent": Allowance(user=60, app=60),
    "posts_of_user": Allowance(user=5, app=10),
    "mentions": Allowance(user=10, app=15),
    "me": Allowance(user_day=250),
    **dict.fromkeys(LOOK_UP_OF_USERS, Allowance(user_day=100, app_day=500)),
    **dict.fromkeys(("following", "followers", "retweeted_by", "quote_posts"), Allowance(user=5, app=25)),
    **dict.fromkeys(("delete_post", "analytics", "liking_users", "home_timeline", "follow", "unfollow"), Allowance(5)),
}
FREE = {
    **{name: Allowance(user=1, app=None if of.app is None else 1) for name, of in CURRENT.items()},
    "create_post": Allowance(user_day=17, app_day=17),
    "delete_post": Allowance(user_day=17, app_day=17),
    "me": Allowance(user_day=25),
}
BY_TIER: dict[Tier, dict[str, Allowance]] = {
    "free": FREE, "basic": BASIC, "pro": CURRENT, "pay-per-use": CURRENT, "enterprise": CURRENT,
}  # fmt: skip
# Posts that may be read in a calendar month, of these endpoints: https://docs.x.com/x-api/x-api-v2/fundamentals/tweet-cap
MONTHLY_POSTS: dict[Tier, int] = {"free": 100, "basic": 10_000, "pro": 1_000_000, "pay-per-use": 3_000_000}
CAPPED = frozenset({"posts_by_ids", "post_by_id", "search_recent", "posts_of_user", "mentions"})


@dataclass(frozen=True)
class Verdict:
    """Whether a request may go on, and the headers that its answer carries."""

    allowed: bool
    headers: dict[str, str]


def take(store: Store, endpoint: str, tier: Tier, context: Context, now_ms: int) -> Verdict:
    """Use up one request of the endpoint's windows. A refused request uses none."""
    quotas = _quotas(BY_TIER[tier][endpoint], context)
    windows = [_window(store.window(endpoint, context, prefix), span, now_ms) for prefix, _, span in quotas]
    allowed = all(used < limit for (_, used), (_, limit, _) in zip(windows, quotas, strict=True))
    headers: dict[str, str] = {}
    for (started, used), (prefix, limit, span) in zip(windows, quotas, strict=True):
        now_used = used + allowed
        refused = int(used >= limit)
        store.set_window(Window(endpoint, context, prefix, started, span, limit, now_used, refused))
        headers |= {
            f"{prefix}-limit": str(limit),
            f"{prefix}-remaining": str(limit - now_used),
            f"{prefix}-reset": str(-(-(started + span) // 1000)),
        }
    for part in ("limit", "remaining", "reset"):
        # Where there is no shorter limit than a day's, the plain headers tell that one.
        headers.setdefault(f"x-rate-limit-{part}", headers.get(f"x-user-limit-24hour-{part}", ""))
    return Verdict(allowed, headers)


def _quotas(allowance: Allowance, context: Context) -> list[tuple[str, int, int]]:
    """Header, limit and span (ms) of each window that a request with such a token counts in."""
    user = context == "user"
    quotas = [
        ("x-rate-limit", allowance.user if user else allowance.app, WINDOW_MS),
        ("x-user-limit-24hour", allowance.user_day if user else None, DAY_MS),
        ("x-app-limit-24hour", allowance.app_day, DAY_MS),
    ]
    return [(prefix, limit, span) for prefix, limit, span in quotas if limit is not None]


def _window(latest: tuple[int, int], span: int, now_ms: int) -> tuple[int, int]:
    started, used = latest
    return (started, used) if now_ms < started + span else (now_ms, 0)


def over_the_month(settings: Settings, store: Store, endpoint: str, now: datetime) -> bool:
    """Whether as many posts were read in this month as the tier allows, and this endpoint reads posts."""
    most = settings.post_cap or MONTHLY_POSTS.get(settings.tier)
    return most is not None and endpoint in CAPPED and store.posts_read(now.strftime("%Y-%m")) >= most


def refusal() -> Json:
    """The body of a 429 of a window: X's code 88, in a problem that the OpenAPI description allows."""
    return {
        "errors": [{"code": 88, "message": "Rate limit exceeded"}],
        "title": "Too Many Requests",
        "detail": "Too Many Requests",
        "type": "about:blank",
        "status": 429,
    }


def usage_capped(settings: Settings) -> Json:
    """The body of a 429 when the month's posts are read."""
    return {
        "account_id": settings.bot_id,
        "product_name": f"standard-{settings.tier}",
        "title": "UsageCapExceeded",
        "period": "Monthly",
        "scope": "Product",
        "detail": "Usage cap exceeded: Monthly product cap",
        "type": f"{PROBLEMS}usage-capped",
    }
