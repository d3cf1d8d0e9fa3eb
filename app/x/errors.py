"""What can go wrong between us and X, as one tree. The leaves say what a caller may do next.

    XError
    ├── Retryable            the same request may be made again, at `retry_at`
    │   ├── RateLimited          a window is empty
    │   ├── BudgetExhausted      our own cap on money would be passed
    │   ├── CreditsDepleted      X wants to be paid first
    │   ├── ServerUnavailable    no usable answer to something that may be asked twice (all but making a post)
    │   └── NotDelivered         the request never reached X
    ├── Permanent            the same request will be refused again
    │   ├── Duplicate            X has this text already
    │   ├── NotAllowed           the account lacks the capability
    │   ├── Gone                 the post or the user is not there
    │   ├── BadRequest           X does not understand the request
    │   └── AccountTrouble       nothing will work until a person has acted
    │       ├── Unauthorized         the keys are wrong or revoked, or a person has to log in
    │       ├── AccountLocked
    │       └── AccountSuspended
    └── OutcomeUnknown       a post may or may not have been made: look before doing anything else

The names say what to do, not that they are errors. None holds a request, a header or a key, so each is safe to log
with its whole traceback.
"""

from __future__ import annotations

from datetime import datetime


class XError(Exception):
    """Something went wrong at X.

    Attributes:
        endpoint: e.g. `POST /2/tweets`.
        status: the HTTP status, None if no answer came.
        problem: the last part of X's problem type or its numeric code, None if it gave neither.
    """

    # Everything but the message has a default, so that the error survives pickling between processes.
    def __init__(
        self,
        message: str,
        *,
        endpoint: str = "",
        status: int | None = None,
        problem: str | None = None,
        retry_at: datetime | None = None,
    ) -> None:
        super().__init__(message)
        self.endpoint = endpoint
        self.status = status
        self.problem = problem
        self.retry_at = retry_at

    def __str__(self) -> str:
        where = " ".join(part for part in (self.endpoint, str(self.status) if self.status else "") if part)
        return f"{where}: {self.args[0]}" if where else str(self.args[0])


class Retryable(XError):
    """The same request may be made again, at the world time `retry_at`; None if X did not say when."""


class RateLimited(Retryable):
    """A window of X's is empty."""


class BudgetExhausted(Retryable):
    """The request could pass the configured cap of a day or a month."""


class CreditsDepleted(Retryable):
    """X answered 402: the app has no credits left. A person has to buy some."""


class ServerUnavailable(Retryable):
    """The request failed at X, or its answer on the way back; it does no harm to make it again."""


class NotDelivered(Retryable):
    """The connection was never made, so the request was certainly not carried out."""


class Permanent(XError):
    """The same request will be refused again."""


class Duplicate(Permanent):
    """X has a post of ours with this text already."""


class NotAllowed(Permanent):
    """The account, its tier or the other side does not allow this; `problem` is X's problem type."""


class Gone(Permanent):
    """What the request is about was deleted, or is not visible to us."""


class BadRequest(Permanent):
    """The request is wrong in form."""


class AccountTrouble(Permanent):
    """Nothing will work for this account until a person has acted."""


class Unauthorized(AccountTrouble):
    """The keys are wrong or were revoked, or the tokens of OAuth 2.0 are gone: `explorer login`."""


class AccountLocked(AccountTrouble):
    """X wants the account's owner to log in and confirm."""


class AccountSuspended(AccountTrouble):
    """X has suspended the account."""


class OutcomeUnknown(XError):
    """A post may or may not have been made. Never send it again before looking for it."""
