"""From what the wire did to which error it is. Problem types: https://docs.x.com/x-api/fundamentals/response-codes-and-errors"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import requests
import urllib3

from app import clock
from app.x import errors
from app.x.endpoints import Endpoint
from app.x.errors import XError
from app.x.transport import Answer

MAX_MESSAGE = 300
NOTHING_SAID = "X returned nothing for it"
DUPLICATE = re.compile(r"duplicate content|status is a duplicate", re.IGNORECASE)
SUSPENDED = re.compile(r"\byour account (is|has been)( \w+)? suspended\b", re.IGNORECASE)
LOCKED = re.compile(r"\byour account (is|has been)( \w+)? locked\b|account is temporarily locked", re.IGNORECASE)
GONE = re.compile(
    r"deleted or not visible|quote tweet attached is invalid|tweet .*(no longer|does not) exist", re.IGNORECASE
)
BY_CODE: dict[str, type[XError]] = {  # https://developer.x.com/en/support/x-api/error-troubleshooting
    "32": errors.Unauthorized,
    "34": errors.Gone,
    "50": errors.Gone,
    "64": errors.AccountSuspended,
    "88": errors.RateLimited,
    "89": errors.Unauthorized,
    "144": errors.Gone,
    "185": errors.RateLimited,
    "187": errors.Duplicate,
    "326": errors.AccountLocked,
    "385": errors.Gone,
}
BY_PROBLEM: dict[str, type[XError]] = {
    "resource-not-found": errors.Gone,
    "usage-capped": errors.RateLimited,
    "rate-limit-exceeded": errors.RateLimited,
    "credits-depleted": errors.CreditsDepleted,
    "invalid-request": errors.BadRequest,
    "unsupported-authentication": errors.Unauthorized,
    "not-authorized-for-resource": errors.NotAllowed,
    "not-authorized-for-field": errors.NotAllowed,
    "client-forbidden": errors.NotAllowed,
}
BY_STATUS: dict[int, type[XError]] = {
    401: errors.Unauthorized,
    402: errors.CreditsDepleted,
    403: errors.NotAllowed,
    404: errors.Gone,
    410: errors.Gone,
    429: errors.RateLimited,
}
QUIET_AFTER_402 = timedelta(hours=1)
UNKNOWN_WINDOW = timedelta(minutes=15)
NOT_CONNECTED = (urllib3.exceptions.ConnectTimeoutError, ssl.SSLCertVerificationError)


def error_of(endpoint: Endpoint, answer: Answer) -> XError | None:
    """The error that an answer is, None if it is usable.

    A 2xx is unusable if its body is no JSON object, or holds problems and nothing else.
    """
    problems = list(_problems(answer.body))
    if 200 <= answer.status < 300:
        return _error_of_success(endpoint, answer, problems)
    if answer.status >= 500 or answer.status == 408:
        lost = errors.ServerUnavailable if endpoint.repeatable else errors.OutcomeUnknown
        return _build(lost, endpoint, answer, problems)
    return _build(_kind(answer.status, problems), endpoint, answer, problems)


def error_without_answer(endpoint: Endpoint, failure: requests.RequestException) -> XError:
    """The error that a request without an answer is. Only a connection never made is known to have done nothing."""
    causes = list(_causes(failure))
    name = type(causes[-1]).__name__
    if isinstance(failure, requests.ConnectTimeout) or any(isinstance(cause, NOT_CONNECTED) for cause in causes):
        return errors.NotDelivered(f"no connection to X ({name})", endpoint=endpoint)
    if endpoint.repeatable:
        return errors.ServerUnavailable(f"no usable answer ({name})", endpoint=endpoint)
    return errors.OutcomeUnknown(f"sent, but no answer ({name}); look for it first", endpoint=endpoint)


def reason_of(problem: Mapping[str, Any]) -> str:
    """What X says of one problem, as one line that is safe to store."""
    text = problem.get("detail") or problem.get("message") or problem.get("title") or "X gave no reason"
    return " ".join(str(text).split())[:MAX_MESSAGE]


def problem_of(problem: Mapping[str, Any]) -> str | None:
    """The last part of a problem's type, e.g. `not-authorized-for-resource`, or its numeric code as text."""
    kind = problem.get("type")
    if isinstance(kind, str) and "/problems/" in kind:  # api.x.com and api.twitter.com both occur
        return kind.rsplit("/", 1)[-1][:100]
    code = problem.get("code")
    return str(code)[:100] if isinstance(code, int | str) else None


def problems_of(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The problems that a body tells of."""
    return list(_problems(body))


def subject_of(problem: Mapping[str, Any]) -> str | None:
    """The id or handle that a problem of a lookup is about."""
    subject = problem.get("resource_id") or problem.get("value")
    return str(subject) if isinstance(subject, str | int) else None


def reasons(body: Mapping[str, Any], asked: Iterable[str]) -> dict[str, str]:
    """For each id or handle that a lookup did not return, what X says about it."""
    told: dict[str, str] = {}
    for problem in _problems(body):
        for subject in (problem.get("resource_id"), problem.get("value")):
            if isinstance(subject, str | int):
                told.setdefault(str(subject).lower(), reason_of(problem))
    return {name: told.get(name.lower(), NOTHING_SAID) for name in asked}


def _error_of_success(endpoint: Endpoint, answer: Answer, problems: list[Mapping[str, Any]]) -> XError | None:
    if answer.body is None:
        lost = errors.ServerUnavailable if endpoint.repeatable else errors.OutcomeUnknown
        return lost("the answer cannot be read", endpoint=endpoint, status=answer.status)
    by_ids = endpoint in {Endpoint.POSTS, Endpoint.USERS, Endpoint.USERS_BY, Endpoint.ANALYTICS}
    if problems and "data" not in answer.body and "meta" not in answer.body and not by_ids:
        kind = _kind(403, problems) if endpoint.repeatable else errors.OutcomeUnknown
        return _build(kind, endpoint, answer, problems)
    return None


def _kind(status: int, problems: list[Mapping[str, Any]]) -> type[XError]:
    for problem in problems:
        text = reason_of(problem)
        if DUPLICATE.search(text):
            return errors.Duplicate
        if SUSPENDED.search(text):
            return errors.AccountSuspended
        if LOCKED.search(text):
            return errors.AccountLocked
        if GONE.search(text):
            return errors.Gone
        name = problem_of(problem) or ""
        if name in BY_PROBLEM or name in BY_CODE:
            return BY_PROBLEM.get(name) or BY_CODE[name]
    return BY_STATUS.get(status, errors.BadRequest)


def _build(kind: type[XError], endpoint: Endpoint, answer: Answer, problems: list[Mapping[str, Any]]) -> XError:
    first = problems[0] if problems else {}
    message = reason_of(first) if problems else "X gave no reason"
    if kind is errors.OutcomeUnknown:
        message += "; it may have happened: look for it first"
    return kind(
        message,
        endpoint=endpoint,
        status=answer.status,
        problem=problem_of(first),
        retry_at=_retry_at(kind, answer, first),
    )


def _retry_at(kind: type[XError], answer: Answer, problem: Mapping[str, Any]) -> datetime | None:
    if kind is errors.CreditsDepleted:
        return clock.now() + QUIET_AFTER_402
    if kind is not errors.RateLimited:
        return None
    if problem_of(problem) == "usage-capped":
        return next_day() if problem.get("period") == "Daily" else next_month()
    resets = (_empty_until(answer, name) for name in answer.headers if name.lower().endswith("-reset"))
    return max((at for at in resets if at is not None), default=clock.now() + UNKNOWN_WINDOW)


def _empty_until(answer: Answer, reset_name: str) -> datetime | None:
    """When a window resets, None unless its headers say that it is empty."""
    if answer.headers.get(reset_name[: -len("reset")] + "remaining", "0") != "0":
        return None
    return epoch(answer.headers.get(reset_name))


def epoch(text: str | None) -> datetime | None:
    """A header's epoch seconds as a time; None if it is missing or absurd."""
    if text is None or not text.isdecimal() or len(text) > 11:
        return None
    return datetime.fromtimestamp(int(text), UTC)


def next_day() -> datetime:
    """When the day of the world, in UTC, ends."""
    return clock.now().replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def next_month() -> datetime:
    """When the month of the world, in UTC, ends."""
    first = clock.now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + timedelta(days=32)).replace(day=1)


def _problems(body: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """X puts problems into `errors`, into `error`, or makes the whole body one."""
    if body is None:
        return
    listed = body.get("errors")
    for item in [*(listed if isinstance(listed, list) else []), body.get("error"), body]:
        if isinstance(item, str):
            yield {"detail": item}
        elif isinstance(item, dict) and ({"detail", "message", "title", "type", "code"} & item.keys()):
            yield item


def _causes(failure: BaseException) -> Iterator[BaseException]:
    """The exceptions that `requests` and urllib3 have wrapped into each other, outermost first."""
    seen: set[int] = set()
    cause: object = failure
    while isinstance(cause, BaseException) and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        inner = [getattr(cause, "reason", None), getattr(cause, "original_error", None), *cause.args]
        cause = next((item for item in inner if isinstance(item, BaseException)), None)
