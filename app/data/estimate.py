"""What gathering the data set will cost, said before it starts: US dollars, hours, tokens. All of it "at most"."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from app.config import VibeBotConfig
from app.data.x_source import price_of_posts
from app.x.endpoints import Endpoint
from app.x.limits import limits_of
from app.x.requester import BATCH
from dbs.models import DataSet, DataSetAccount
from dbs.states import SourceState

CHARACTERS_PER_TOKEN = 4
# Before anything is read: long for a post, so that the estimate rather says too much.
CHARACTERS_PER_POST = 140


@dataclass(frozen=True)
class Estimate:
    """What is still to come, at most.

    Attributes:
        usd: what X charges; half of it is for the posts that replies answer, where those are read.
        hours: of world time, as far as X's windows and the daily cap on money set the pace.
        bound: what ends it first: the accounts, the tokens or the cost.
    """

    accounts: int
    posts: int
    tokens: int
    usd: float
    hours: float
    bound: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.accounts} account(s), at most {self.posts:,} posts, some {self.tokens:,} tokens, at most "
            f"${self.usd:,.2f}, at least {self.hours:,.1f} hours; {self.bound} will end it"
        )


def estimate(config: VibeBotConfig, row: DataSet, accounts: list[DataSetAccount]) -> Estimate:
    """What reading the rest from X comes to, at most."""
    sft = config.sft
    reading = [account for account in accounts if account.state == SourceState.READING]
    left = sum(max(0, sft.posts_per_account - account.read) for account in reading)
    length = row.characters / row.posts if row.posts else CHARACTERS_PER_POST
    wanted = max(0.0, sft.approximate_tokens - row.characters / CHARACTERS_PER_TOKEN) * CHARACTERS_PER_TOKEN / length
    each = float(price_of_posts(config, 1)) * (2 if sft.read_parents else 1)
    affordable = max(0.0, sft.max_cost - float(row.usd)) / each if each else math.inf
    bounds = {
        "the last post of every account": float(left),
        "sft.approximate_tokens": wanted,
        "sft.max_cost": affordable,
    }
    bound = min(bounds, key=lambda name: bounds[name])
    posts = math.floor(bounds[bound])
    usd = posts * each
    return Estimate(
        accounts=len(reading),
        posts=posts,
        tokens=round(posts * length / CHARACTERS_PER_TOKEN),
        usd=usd,
        hours=max(_hours_of_windows(config, posts), _hours_of_money(config, usd)),
        bound=bound,
    )


def _hours_of_windows(config: VibeBotConfig, posts: int) -> float:
    requests = math.ceil(posts / BATCH)
    return max(
        requests / limit.requests * limit.span_s / 3600 for limit in limits_of(config.budget.tier, Endpoint.USER_POSTS)
    )


def _hours_of_money(config: VibeBotConfig, usd: float) -> float:
    if usd == 0:
        return 0.0
    cap = min(config.budget.max_usd_per_day, config.budget.max_usd_per_month / 30)
    return usd / cap * 24 if cap else math.inf
