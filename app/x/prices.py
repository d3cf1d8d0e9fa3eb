"""What a request to X costs, in US dollars.

Source: https://docs.x.com/x-api/getting-started/pricing: reads are charged per thing returned, the authors that an
expansion includes among them; writes per request; refused requests not at all. Re-reading a thing within one UTC day is
usually free at X, which promises it only softly, so it is counted here: the ledger never says less than the bill.
Plans with a monthly fee have no price per request.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from app.config import BudgetConfig
from app.x.endpoints import Endpoint

FREE = Decimal(0)
USER_READS = {
    Endpoint.LIKERS,
    Endpoint.REPOSTERS,
    Endpoint.USERS,
    Endpoint.USERS_BY,
    Endpoint.ME,
    Endpoint.FOLLOWING,
}


@dataclass(frozen=True)
class Charge:
    """The price list of one request."""

    request: Decimal = FREE
    item: Decimal = FREE
    author: Decimal = FREE

    def of(self, items: int, authors: int) -> Decimal:
        """The price of an answer with so many things and so many included authors in it."""
        return self.request + self.item * items + self.author * authors


def charge_for(
    endpoint: Endpoint, budget: BudgetConfig, *, owned: bool = False, url: bool = False, summoned: bool = False
) -> Charge:
    """The price list of a request.

    Args:
        owned: it reads the account's own posts or mentions.
        url: the text that it posts has a link in it.
        summoned: it replies to somebody who called the bot.
    """
    if budget.tier != "pay-per-use":
        return Charge()
    prices = budget.prices
    if endpoint is Endpoint.CREATE_POST:
        plain = prices.summoned_reply if summoned else prices.post
        return Charge(request=_usd(prices.post_with_url if url else plain))
    if endpoint is Endpoint.FOLLOW:
        return Charge(request=_usd(prices.interaction))
    if endpoint is Endpoint.DELETE_POST:
        return Charge(request=_usd(prices.deletion))
    if endpoint in USER_READS:
        return Charge(item=_usd(prices.user_read))
    return Charge(item=_usd(prices.owned_read if owned else prices.post_read), author=_usd(prices.user_read))


def _usd(price: float) -> Decimal:
    return Decimal(str(price))
