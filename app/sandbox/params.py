"""Query parameters, checked as X checks them: every wrong one is named in one 400."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b

from app.sandbox.posts import snowflake
from app.sandbox.problems import Json, invalid
from app.sandbox.wire import TWEET_EXPANSIONS, TWEET_FIELDS, USER_EXPANSIONS, USER_FIELDS, Selection

ID = re.compile(r"^[0-9]{1,19}$")
HANDLE = re.compile(r"^[A-Za-z0-9_]{1,15}$")
NUMBER = re.compile(r"^[0-9]{1,9}$")
OTHER_FIELDS = ("media.fields", "poll.fields", "place.fields")
TWEET_SELECTORS = ("tweet.fields", "user.fields", "expansions", *OTHER_FIELDS)
USER_SELECTORS = ("tweet.fields", "user.fields", "expansions")
RANGE = ("since_id", "until_id", "start_time", "end_time", "max_results", "pagination_token")


class Params:
    """The query parameters of one request. Ask for each, then `check()`."""

    def __init__(self, given: Mapping[str, str], known: Collection[str]) -> None:
        self._given = {name: value for name, value in given.items() if name in known}
        self._errors: list[Json] = []
        for name in given:
            if name not in known:
                self._errors.append(
                    {
                        "parameters": {name: [given[name]]},
                        "message": f"The query parameter [{name}] is not one of [{','.join(sorted(known))}]",
                    }
                )

    def check(self) -> None:
        """Raise one 400 that names everything that was wrong so far."""
        if self._errors:
            raise invalid(self._errors)

    def wrong(self, name: str, value: str, message: str) -> None:
        self._errors.append({"parameters": {name: [value]}, "message": message})

    def text(self, name: str) -> str:
        """A required text."""
        value = self._given.get(name, "")
        if not value:
            self._errors.append(
                {"parameters": {name: [value]}, "message": f"The `{name}` query parameter can not be empty"}
            )
        return value

    def one_of(self, name: str, allowed: Sequence[str], default: str) -> str:
        value = self._given.get(name, default)
        if value not in allowed:
            self.wrong(name, value, f"The `{name}` query parameter value [{value}] is not one of [{','.join(allowed)}]")
        return value

    def several(self, name: str, allowed: Sequence[str]) -> frozenset[str]:
        """A comma-separated list of known words."""
        if name not in self._given:
            return frozenset()
        values = self._given[name].split(",")
        for value in values:
            if value not in allowed:
                self.wrong(
                    name, value, f"The `{name}` query parameter value [{value}] is not one of [{','.join(allowed)}]"
                )
        return frozenset(values)

    def ids(self, name: str) -> list[int]:
        """1 to 100 ids, in their order."""
        values = self._listed(name)
        for value in values:
            if not ID.match(value):
                self.wrong(name, value, f"The `{name}` query parameter value [{value}] is not valid")
        return [int(value) for value in values if ID.match(value)]

    def handles(self, name: str) -> list[str]:
        """1 to 100 handles, in their order."""
        values = self._listed(name)
        for value in values:
            if not HANDLE.match(value):
                self.wrong(
                    name, value, f"The `{name}` query parameter value [{value}] does not match ^[A-Za-z0-9_]{{1,15}}$"
                )
        return values

    def _listed(self, name: str) -> list[str]:
        values = list(dict.fromkeys(part for part in self.text(name).split(",") if part))
        if len(values) > 100:
            self.wrong(
                name,
                self._given[name],
                f"The number of values in the `{name}` query parameter list [{len(values)}] is not between 1 and 100",
            )
        return values

    def number(self, name: str, low: int, high: int, default: int) -> int:
        value = self._given.get(name, str(default))
        if not NUMBER.match(value) or not low <= int(value) <= high:
            self.wrong(name, value, f"The `{name}` query parameter value [{value}] is not between {low} and {high}")
            return default
        return int(value)

    def moment(self, name: str, *, required: bool = False) -> datetime | None:
        """A time in RFC 3339, UTC."""
        value = self.text(name) if required else self._given.get(name)
        if not value:
            return None
        try:
            given = datetime.fromisoformat(value)
            found = given.astimezone(UTC) if given.tzinfo else None
        except (ValueError, OverflowError):  # the first and the last day of all time are not in every time zone
            found = None
        if found is None:
            self.wrong(
                name,
                value,
                f"The `{name}` query parameter value [{value}] does not match RFC 3339 (yyyy-MM-dd'T'HH:mm:ssZ)",
            )
        return found

    def span(self, until: int, within: tuple[datetime, datetime] | None = None) -> tuple[int, int]:
        """Ids above the first and up to the second, by since_id, until_id, start_time and end_time.

        As at X, an id takes precedence over the time at the same end.

        Args:
            within: the earliest and the latest time that may be named.
        """
        start, end = self.moment("start_time"), self.moment("end_time")
        since, before = self._identity("since_id"), self._identity("until_id")
        if start and end and start >= end:
            self.wrong("start_time", self._given["start_time"], "`start_time` must be a time before `end_time`")
        if within is not None:
            self._check_within(within, start, end, since)
        low = since if since is not None else snowflake(start, 0) - 1 if start else 0
        high = before - 1 if before is not None else snowflake(end, 0) - 1 if end else until
        return low, min(high, until)

    def _check_within(
        self, within: tuple[datetime, datetime], start: datetime | None, end: datetime | None, since: int | None
    ) -> None:
        oldest, newest = within
        if start and start < oldest:
            message = f"Invalid 'start_time'. 'start_time' must be on or after {oldest:%Y-%m-%dT%H:%MZ}"
            self.wrong("start_time", self._given["start_time"], message)
        if end and end > newest:
            message = "Invalid 'end_time'. 'end_time' must be a minimum of 10 seconds prior to the request time"
            self.wrong("end_time", self._given["end_time"], message)
        if since is not None and since < snowflake(oldest, 0):
            message = f"'since_id' must be a tweet id created after {oldest:%Y-%m-%dT%H:%MZ}. Please use a larger one"
            self.wrong("since_id", self._given["since_id"], message)

    def _identity(self, name: str) -> int | None:
        """An id, if one is given."""
        value = self._given.get(name)
        if value is not None and not ID.match(value):
            self.wrong(name, value, f"The `{name}` query parameter value [{value}] is not valid")
            return None
        return None if value is None else int(value)

    def token(self, *names: str) -> tuple[str, int] | None:
        """Direction and place that a pagination token stands for."""
        for name in names:
            if name in self._given:
                value = self._given[name]
                found = read_token(value)
                if found is None:
                    self.wrong(name, value, f"The `{name}` query parameter value [{value}] is not valid")
                return found
        return None

    def tweet_selection(self) -> Selection:
        return Selection(
            self.several("tweet.fields", TWEET_FIELDS),
            self.several("user.fields", USER_FIELDS),
            self.several("expansions", TWEET_EXPANSIONS),
        )

    def user_selection(self) -> Selection:
        return Selection(
            self.several("tweet.fields", TWEET_FIELDS),
            self.several("user.fields", USER_FIELDS),
            self.several("expansions", USER_EXPANSIONS),
        )


def make_token(direction: str, place: int) -> str:
    """A pagination token: opaque to clients, 24 characters."""
    body = direction.encode() + place.to_bytes(8, "big")
    return base64.b32encode(body + blake2b(body, digest_size=5).digest()).decode().rstrip("=").lower()


def read_token(token: str) -> tuple[str, int] | None:
    """What `make_token` put in, or None if it did not make this."""
    try:
        raw = base64.b32decode(token.upper() + "=" * (-len(token) % 8))
    except ValueError:
        return None
    body, check = raw[:9], raw[9:]
    if len(raw) != 14 or blake2b(body, digest_size=5).digest() != check:
        return None
    return body[:1].decode("latin-1"), int.from_bytes(body[1:], "big")
