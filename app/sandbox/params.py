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
NO_ID = (1 << 63) - 1
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
        if not value.isdecimal() or not low <= int(value) <= high:
            self.wrong(name, value, f"The `{name}` query parameter value [{value}] is not between {low} and {high}")
            return default
        return int(value)

    def moment(self, name: str, *, required: bool = False) -> datetime | None:
        """A time in RFC 3339, UTC."""
        value = self.text(name) if required else self._given.get(name)
        if not value:
            return None
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            found = None
        if found is None or found.tzinfo is None:
            self.wrong(
                name,
                value,
                f"The `{name}` query parameter value [{value}] does not match RFC 3339 (yyyy-MM-dd'T'HH:mm:ssZ)",
            )
            return None
        return found.astimezone(UTC)

    def span(self, until: int) -> tuple[int, int]:
        """Ids above the first and up to the second, by since_id, until_id, start_time and end_time."""
        low, high = 0, until
        for name, is_low in (("since_id", True), ("until_id", False)):
            value = self._given.get(name)
            if value is not None and not ID.match(value):
                self.wrong(name, value, f"The `{name}` query parameter value [{value}] is not valid")
            elif value is not None:
                low, high = (max(low, int(value)), high) if is_low else (low, min(high, int(value) - 1))
        start, end = self.moment("start_time"), self.moment("end_time")
        if start:
            low = max(low, snowflake(start, 0) - 1)
        if end:
            high = min(high, snowflake(end, 0) - 1)
        return low, high

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
