"""Recent search: the query language, and the seven days it looks at.

Operators after https://docs.x.com/x-api/posts/search/integrate/operators: words, "phrases", #tags, @handles,
from:, to:, conversation_id:, in_reply_to_tweet_id:, quotes_of_tweet_id:, lang:, is: and has:, with -, OR and brackets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice

from app.sandbox.api.endpoint import Endpoint, Request
from app.sandbox.paging import page_of_posts
from app.sandbox.params import RANGE, TWEET_SELECTORS
from app.sandbox.posts import Post, newest_first, snowflake
from app.sandbox.problems import invalid
from app.sandbox.traits import HASHTAG
from app.sandbox.view import View
from app.sandbox.wire import Answer
from app.sandbox.world import World
from app.text import links, mentions

DAYS = timedelta(days=7)
SETTLING = timedelta(seconds=10)
QUERY_LENGTH, QUERY_LENGTH_ENTERPRISE = 512, 4096
MOST = 20_000  # posts that a search looks at, at most
TOKEN = re.compile(r'-?"[^"]*"|-?\w+:"[^"]*"|[()]|-?[^\s()"]+')
Test = Callable[[Post], bool]


@dataclass(frozen=True)
class Query:
    """A parsed query: the test a post must pass, and ids that narrow the search where they can."""

    test: Test
    conversation: int | None = None
    author: int | None = None


class _Parser:
    """Recursive descent over OR, AND (a space), negation and brackets. AND binds before OR, as at X."""

    def __init__(self, text: str, world: World) -> None:
        self._tokens, self._place, self._world, self._text = TOKEN.findall(text), 0, world, text
        self._standalone = False
        self.narrow: dict[str, int] = {}

    def parse(self) -> Test:
        test = self._either(top=True)
        if self._place < len(self._tokens):
            raise self._error(f"unexpected [{self._tokens[self._place]}]")
        if not self._standalone:
            raise self._error("a query needs at least one operator that can stand alone, such as a word or from:")
        return test

    def _error(self, message: str) -> Exception:
        return invalid(
            [
                {
                    "parameters": {"query": [self._text]},
                    "message": f"There were errors processing your request: {message}",
                }
            ]
        )

    def _peek(self) -> str | None:
        return self._tokens[self._place] if self._place < len(self._tokens) else None

    def _either(self, *, top: bool) -> Test:
        tests = [self._every(top=top)]
        while self._peek() == "OR":
            self._place += 1
            self.narrow.clear()
            tests.append(self._every(top=False))
        return tests[0] if len(tests) == 1 else lambda post: any(test(post) for test in tests)

    def _every(self, *, top: bool) -> Test:
        tests: list[Test] = []
        while (ahead := self._peek()) is not None and ahead not in {")", "OR"}:
            tests.append(self._one(top=top))
        if not tests:
            raise self._error("missing a word or an operator")
        return lambda post: all(test(post) for test in tests)

    def _one(self, *, top: bool) -> Test:
        part = self._tokens[self._place]
        self._place += 1
        if part == "(":
            return self._bracket()
        if part == "-" and self._peek() == "(":
            self._place += 1
            inside = self._bracket()
            return lambda post: not inside(post)
        if part.startswith("-") and len(part) > 1:
            test = self._operator(part[1:], top=False, negated=True)
            return lambda post: not test(post)
        return self._operator(part, top=top, negated=False)

    def _bracket(self) -> Test:
        test = self._either(top=False)
        if self._peek() != ")":
            raise self._error("a bracket is not closed")
        self._place += 1
        return test

    def _operator(self, token: str, *, top: bool, negated: bool) -> Test:
        name, colon, value = token.partition(":")
        if colon and name.isidentifier() and not token.startswith('"'):
            if name not in {"is", "has", "lang"} and not negated:
                self._standalone = True
            return self._named(name, value.strip('"'), top=top)
        self._standalone = self._standalone or not negated
        wanted = token.strip('"').lower()
        if token.startswith("@"):
            return lambda post: wanted[1:] in mentions(post.text)
        if token.startswith("#"):
            return lambda post: wanted in {tag.lower() for tag in HASHTAG.findall(post.text)}
        pattern = re.compile(rf"(?<!\w){re.escape(wanted)}(?!\w)", re.IGNORECASE)
        return lambda post: bool(pattern.search(post.text))

    def _named(self, name: str, value: str, *, top: bool) -> Test:
        if name in {"from", "to"}:
            person = self._world.person(int(value)) if value.isdecimal() else self._world.person_by_handle(value)
            wanted = person.id if person else -1
            if name == "from" and top:
                self.narrow["author"] = wanted
            return lambda post: (post.author if name == "from" else post.target_author) == wanted
        if name in {"conversation_id", "in_reply_to_tweet_id", "quotes_of_tweet_id"}:
            if not value.isdecimal():
                raise self._error(f"[{value}] is not an id")
            wanted = int(value)
            if name == "conversation_id" and top:
                self.narrow["conversation"] = wanted
            kinds = {"in_reply_to_tweet_id": "reply", "quotes_of_tweet_id": "quote"}
            if name == "conversation_id":
                return lambda post: post.conversation == wanted
            return lambda post: post.kind == kinds[name] and post.target == wanted
        if name == "lang":
            return lambda post: (post.substance != "empty") and value == self._world.community.file.language
        tests: dict[tuple[str, str], Test] = {
            ("is", "retweet"): lambda post: post.kind == "repost",
            ("is", "reply"): lambda post: post.kind == "reply",
            ("is", "quote"): lambda post: post.kind == "quote",
            ("is", "verified"): lambda _: False,
            ("has", "links"): lambda post: bool(links(post.text)),
            ("has", "hashtags"): lambda post: bool(HASHTAG.search(post.text)),
            ("has", "mentions"): lambda post: bool(mentions(post.text)),
            ("has", "media"): lambda _: False,
        }
        if (name, value) not in tests:
            raise self._error(
                f"Reference to invalid operator '{name}:{value}'. Operator is not available in current product"
            )
        return tests[name, value]


def parse(text: str, world: World) -> Query:
    """Read a query.

    Raises:
        Problem: 400, saying what is wrong with it.
    """
    parser = _Parser(text, world)
    test = parser.parse()
    return Query(test, parser.narrow.get("conversation"), parser.narrow.get("author"))


def recent(request: Request) -> Answer:
    """GET /2/tweets/search/recent."""
    params = request.params("query", "next_token", "sort_order", *RANGE, *TWEET_SELECTORS)
    world = request.world
    text = params.text("query")
    size, token = params.number("max_results", 10, 100, 10), params.token("next_token", "pagination_token")
    params.one_of("sort_order", ("recency", "relevancy"), "recency")
    low, high = params.span(world.until, within=(world.now - DAYS, world.now - SETTLING))
    if len(text) > _longest(request):
        params.wrong(
            "query", text, f"The `query` is longer than the {_longest(request)} characters of your access tier"
        )
    selection = params.tweet_selection()
    params.check()
    query = parse(text, world)
    shelf = world.shelf
    ids = shelf.all
    if query.conversation is not None:
        ids = shelf.conversation(query.conversation)
    elif query.author is not None:
        ids = shelf.by_author.get(query.author, [])
    found = _matching(request.view, query, newest_first(ids, max(low, snowflake(world.now - DAYS, 0)), high))
    page, meta = page_of_posts(found, size, token)
    meta.pop("previous_token", None)
    renderer = request.renderer(selection)
    return Answer(renderer.envelope(renderer.tweets(page), meta), posts=[post.id for post in page])


def _longest(request: Request) -> int:
    return QUERY_LENGTH if request.settings.tier != "enterprise" else QUERY_LENGTH_ENTERPRISE


def _matching(view: View, query: Query, ids: Iterable[int]) -> Iterator[Post]:
    return (post for post in map(view.post, islice(ids, MOST)) if post is not None and query.test(post))


ENDPOINTS = (Endpoint("search_recent", "GET", "/2/tweets/search/recent", recent, app_only=True),)
