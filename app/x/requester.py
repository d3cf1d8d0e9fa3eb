"""One request to X from beginning to end: reserve, send, settle, and hand back the body or raise."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from http import HTTPStatus
from typing import Any

import requests
import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.config import BudgetConfig
from app.x import errors
from app.x.allowance import Allowance, Reservation, Settlement
from app.x.endpoints import Endpoint
from app.x.errors import XError
from app.x.parse import next_token_of, objects_in, tweets_of
from app.x.prices import Charge, charge_for
from app.x.refusals import error_of, error_without_answer
from app.x.transport import Exchange, Wire
from app.x.types import Page

Method = Callable[..., requests.Response]
Body = dict[str, Any]
BATCH = 100  # the most ids, handles or results of one request
THIN_PAGES = 4  # pages may hold less than was asked for, but a list of four times as many pages is not read to its end
TWEET_FIELDS = (
    "author_id,conversation_id,created_at,entities,id,in_reply_to_user_id,lang,note_tweet,public_metrics,"
    "referenced_tweets,text"
)
USER_FIELDS = "description,id,location,name,protected,public_metrics,username"
log = structlog.get_logger()


class Requester:
    """Makes requests within the allowance. It is here that a bot which is not live sends no write."""

    def __init__(self, wire: Wire, allowance: Allowance, budget: BudgetConfig, *, live: bool) -> None:
        self._wire = wire
        self._allowance = allowance
        self._budget = budget
        self._live = live is True  # a "true" from somewhere else is not True

    def read(
        self,
        endpoint: Endpoint,
        method: Method,
        *args: object,
        items: int,
        authors: int = 0,
        owned: bool = False,
        spare: int = 0,
        **params: object,
    ) -> Body:
        """A request that changes nothing.

        Args:
            method: one of the tweepy client's, called with `args` and `params`; it is the wire that authorizes.
            items: the most things that can come back, and `authors` the most included users; both cost.
            spare: requests of the window that are left for what is more urgent.

        Raises:
            XError: never OutcomeUnknown.
        """
        charge = charge_for(endpoint, self._budget, owned=owned)
        call = partial(method, *args, user_auth=False, **params)
        return self._request(endpoint, charge, charge.of(items, authors), call, spare)

    def write(
        self,
        endpoint: Endpoint,
        method: Method,
        *args: object,
        url: bool = False,
        summoned: bool = False,
        **params: object,
    ) -> Body | None:
        """A request that changes something; None if the bot is not live, and then nothing was sent.

        Raises:
            XError: after OutcomeUnknown a post may have been made all the same.
        """
        if not self._live:
            self._allowance.record_dry(endpoint)
            log.info("x.dry", endpoint=endpoint.value)
            return None
        charge = charge_for(endpoint, self._budget, url=url, summoned=summoned)
        call = partial(method, *args, user_auth=False, **params)
        return self._request(endpoint, charge, charge.of(0, 0), call)

    def pages(
        self,
        endpoint: Endpoint,
        method: Method,
        *args: str,
        most: int,
        smallest: int,
        authors: bool = False,
        owned: bool = False,
        spare: int = 0,
        token: str | None = None,
        token_name: str = "pagination_token",  # noqa: S107 - the name of a parameter
        **params: object,
    ) -> Iterator[Page]:
        """The pages of a list of posts until `most` have come.

        Args:
            smallest: the least that X lets one ask for.
            authors: include the authors' profiles.
            token_name: the parameter that takes the token of a page.
        """
        if authors:
            params |= {"expansions": "author_id", "user_fields": USER_FIELDS}
        for _ in range(THIN_PAGES * math.ceil(most / BATCH)):
            size = min(BATCH, max(smallest, most))
            body = self.read(
                endpoint,
                method,
                *args,
                items=size,
                authors=size if authors else 0,
                owned=owned,
                spare=spare,
                max_results=size,
                tweet_fields=TWEET_FIELDS,
                **{**params, token_name: token},
            )
            page = Page(tweets_of(body), next_token_of(body))
            yield page
            most, token = most - len(page.tweets), page.next_token
            if token is None or most <= 0:
                return

    def ask(
        self, endpoint: Endpoint, method: Method, *args: object, items: int, **params: object
    ) -> tuple[Exchange, XError | None]:
        """As `read`, with the whole answer, and with the error instead of raising it: for whoever wants the headers.

        Raises:
            RateLimited, BudgetExhausted: nothing was asked.
            XError: nothing was asked, because there is no access token to ask with.
        """
        charge = charge_for(endpoint, self._budget)
        return self._exchange(endpoint, charge, charge.of(items, 0), partial(method, *args, user_auth=False, **params))

    def _request(
        self, endpoint: Endpoint, charge: Charge, most: Decimal, call: Callable[[], requests.Response], spare: int = 0
    ) -> Body:
        exchange, error = self._exchange(endpoint, charge, most, call, spare)
        # Raised here and not where it was caught: an exception of the network's holds the signed request.
        if error is not None:
            raise error
        return _body(exchange)

    def _exchange(
        self, endpoint: Endpoint, charge: Charge, most: Decimal, call: Callable[[], requests.Response], spare: int = 0
    ) -> tuple[Exchange, XError | None]:
        used = self._wire.authorization.ready()
        reservation = self._allowance.reserve(endpoint, most, spare)
        exchange = self._wire.exchange(call)
        error = _error_in(endpoint, exchange)
        if isinstance(error, errors.Unauthorized) and error.status == HTTPStatus.UNAUTHORIZED:
            exchange, error = self._once_more(endpoint, call, used, exchange, error)
        self._settle(reservation, charge, exchange, error)
        return exchange, error

    def _once_more(
        self, endpoint: Endpoint, call: Callable[[], requests.Response], used: object, exchange: Exchange, error: XError
    ) -> tuple[Exchange, XError | None]:
        """Asks again with another token, if there is one. A 401 did nothing, so a post may be sent again as well."""
        try:
            if not self._wire.authorization.renew(used):
                return exchange, error
        except XError as trouble:
            return exchange, trouble
        exchange = self._wire.exchange(call)
        return exchange, _error_in(endpoint, exchange)

    def _settle(self, reservation: Reservation, charge: Charge, exchange: Exchange, error: XError | None) -> None:
        items, authors = _counted(_body(exchange)) if error is None else (0, 0)
        settlement = Settlement(
            outcome="ok" if error is None else type(error).__name__,
            cost=charge.of(items, authors) if error is None else _cost_of_failure(reservation, exchange, error),
            units=items + authors,
            status=exchange.answer.status if exchange.answer else None,
            wall_ms=round(exchange.wall_ms, 3),
            headers=exchange.answer.headers if exchange.answer else {},
            delivered=not isinstance(error, errors.NotDelivered),
            refused_until=error.retry_at if isinstance(error, errors.RateLimited) else None,
        )
        began = time.perf_counter()
        try:
            self._allowance.settle(reservation, settlement)
        except SQLAlchemyError as failure:
            # What X did must reach the caller. The entry stays open at the most it could cost.
            log.error("x.not_settled", entry_id=reservation.entry_id, error=type(failure).__name__)
        log.info(
            "x.request",
            endpoint=reservation.endpoint.value,
            outcome=settlement.outcome,
            status=settlement.status,
            units=settlement.units,
            usd=str(settlement.cost),
            wall_ms=settlement.wall_ms,
            settle_ms=round((time.perf_counter() - began) * 1000, 3),
        )


def _error_in(endpoint: Endpoint, exchange: Exchange) -> XError | None:
    if exchange.answer is not None:
        return error_of(endpoint, exchange.answer)
    assert exchange.failure is not None  # noqa: S101 - an exchange has one of the two
    return error_without_answer(endpoint, exchange.failure)


def _cost_of_failure(reservation: Reservation, exchange: Exchange, error: XError) -> Decimal:
    """X charges nothing for what it refused; where it may have done the work, the most is assumed."""
    maybe_done = exchange.answer is None or (exchange.answer.status >= 500 and reservation.endpoint.writes)
    if isinstance(error, errors.OutcomeUnknown) or (maybe_done and not isinstance(error, errors.NotDelivered)):
        return reservation.usd
    return Decimal(0)


def _counted(body: Body) -> tuple[int, int]:
    includes = body.get("includes")
    users = includes.get("users") if isinstance(includes, dict) else None
    return sum(1 for _ in objects_in(body.get("data"))), sum(1 for _ in objects_in(users))


def _body(exchange: Exchange) -> Body:
    return exchange.answer.body or {} if exchange.answer else {}
