"""XInteractor: the only code that talks to X.

Every method names its page of X's API. All of them raise what `app/x/errors.py` draws; only making a post raises
OutcomeUnknown.
Whether anything is really sent is decided in `app/x/requester.py`, by `live` alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TypeVar

import structlog

from app import clock, cursors, text
from app.config import BudgetConfig, Secrets
from app.loading import ConfigError, WrongSetting, load_secrets
from app.x import errors
from app.x.allowance import Allowance, SharedAllowance, Unlimited
from app.x.authorization import Authorization, Signature, check_credentials
from app.x.endpoints import Endpoint
from app.x.parse import analytics_by_id, clock_ahead, counts_by_id, id_of, next_token_of, tweets_of, user_of, users_in
from app.x.refusals import problem_of, problems_of, reasons, subject_of
from app.x.renewal import RenewedBearer
from app.x.requester import BATCH, TWEET_FIELDS, USER_FIELDS, Body, Method, Requester
from app.x.tokens import TokenStore
from app.x.transport import CONNECT_AND_READ, Timeout, Wire
from app.x.types import Counts, Page, Sent, Tweet, Welcome, XUser, newest_id
from dbs.session import Database
from dbs.states import FollowState, Source

__all__ = ["Counts", "Page", "Sent", "Tweet", "XInteractor", "XUser", "newest_id"]

PUBLIC_FIELDS = "id,public_metrics"
PRIVATE_FIELDS = "id,public_metrics,non_public_metrics"
PRIVATE_REFUSED = "not-authorized-for-field"
ANALYTICS_FIELDS = (
    "bookmarks,detail_expands,engagements,follows,hashtag_clicks,impressions,likes,permalink_clicks,quote_tweets,"
    "replies,retweets,shares,unfollows,url_clicks,user_profile_clicks"
)
T = TypeVar("T")
log = structlog.get_logger()
HANDLE = re.compile(r"[A-Za-z0-9_]{1,15}")


class XInteractor:
    """The bot's hands and eyes at X.

    Args:
        user_id: X id of the bot's account; the access token must be that account's.
        bot_id: whose rows it reserves and settles.
        live: only `True` itself lets anything be posted, followed or deleted. Reads always happen.
        secrets: keys and address; from the environment if not given.
        db: where cursors, windows and the ledger are; without it, X alone limits, and nothing is remembered.
        budget: tier, prices and caps.
        timeout: seconds of wall time to connect and between two bytes of an answer, together or apart.
        authorization: how requests are authorized; what the secrets say, if not given.

    Raises:
        ConfigError: a key is missing, or belongs to another account; or OAuth 2.0 has no database for its tokens.
    """

    def __init__(
        self,
        user_id: str,
        *,
        bot_id: str = "explorer",
        live: bool = False,
        secrets: Secrets | None = None,
        db: Database | None = None,
        budget: BudgetConfig | None = None,
        timeout: Timeout = CONNECT_AND_READ,
        authorization: Authorization | None = None,
    ) -> None:
        self.user_id = user_id
        self.bot_id = bot_id
        self.live = live is True
        self._db = db
        secrets = secrets or load_secrets()
        authorization = authorization or authorization_of(user_id, bot_id, secrets, db)
        self._wire = Wire(user_id, secrets, timeout, authorization)
        self._client = self._wire.client
        budget = budget or BudgetConfig()
        allowance: Allowance = SharedAllowance(db, bot_id, user_id, budget) if db else Unlimited()
        self._requester = Requester(self._wire, allowance, budget, live=self.live)

    def __repr__(self) -> str:
        return f"XInteractor(user_id={self.user_id!r}, bot_id={self.bot_id!r}, live={self.live})"

    def close(self) -> None:
        """Close the connections to X."""
        self._wire.close()

    # Reading posts

    def get_timeline(self, user_id: str, max_tweets: int = 50, *, authors: bool = False) -> list[Tweet]:
        """The newest posts of the home timeline that were not seen before, without reposts, newest first.

        What was seen is what the cursor of `Source.TIMELINE` says; whoever stores the posts advances it to
        `newest_id(tweets)` in the same transaction, so that a crash in between loses nothing.
        https://docs.x.com/x-api/posts/user-home-timeline-by-user-id

        Args:
            user_id: the bot's own; X shows nobody another's timeline.
            authors: include the authors' profiles, which X charges for.
        """
        if user_id != self.user_id:
            raise ValueError(f"user_id={user_id!r}: X shows only the own home timeline; pass {self.user_id!r}")
        pages = self._requester.pages(
            Endpoint.HOME_TIMELINE,
            self._client.get_home_timeline,
            most=max_tweets,
            smallest=1,
            authors=authors,
            since_id=self._cursor(Source.TIMELINE),
            exclude="retweets",
        )
        return _flat(pages, max_tweets)

    def get_mentions(self, max_tweets: int = 100) -> list[Tweet]:
        """The newest mentions of the bot that were not seen before, with their authors, newest first.

        The cursor is that of `Source.MENTION`; see `get_timeline`.
        https://docs.x.com/x-api/posts/user-mention-timeline-by-user-id
        """
        pages = self._requester.pages(
            Endpoint.MENTIONS,
            self._client.get_users_mentions,
            self.user_id,
            most=max_tweets,
            smallest=5,
            authors=True,
            owned=True,
            since_id=self._cursor(Source.MENTION),
        )
        return _flat(pages, max_tweets)

    def get_user_posts(
        self,
        user_id: str,
        max_posts: int,
        since_id: str | None = None,
        pagination_token: str | None = None,
        *,
        until_id: str | None = None,
        reposts: bool = False,
        spare: int = 0,
    ) -> Iterator[Page]:
        """A user's posts, page by page, newest first; X goes 3,200 back.

        Each page costs a request when it is asked for. To go on later, pass the last page's `next_token`, or, days
        later, the id of its oldest post as `until_id`, which does not expire. The last page may run over `max_posts` by
        up to four, because X gives no fewer than five.
        https://docs.x.com/x-api/posts/user-posts-timeline-by-user-id

        Args:
            until_id: only posts older than this one.
            reposts: include plain reposts, which cost as much as any other post.
            spare: requests of the window that are left, because our own posts are looked for through the same.
        """
        return self._requester.pages(
            Endpoint.USER_POSTS,
            self._client.get_users_tweets,
            user_id,
            most=max_posts,
            smallest=5,
            since_id=since_id,
            token=pagination_token,
            until_id=until_id,
            spare=spare,
            exclude=None if reposts else "retweets",
        )

    def get_own_posts(self, max_posts: int, start_time: datetime | None = None) -> list[Tweet]:
        """The bot's own posts, newest first, optionally only those from `start_time` (world time) on.

        The cheapest way to public counts of one's own, and where a post of unknown outcome is looked for.
        https://docs.x.com/x-api/posts/user-posts-timeline-by-user-id
        """
        pages = self._requester.pages(
            Endpoint.USER_POSTS,
            self._client.get_users_tweets,
            self.user_id,
            most=max_posts,
            smallest=5,
            owned=True,
            start_time=_iso(start_time) if start_time else None,
        )
        return _flat(pages, max_posts)

    def get_posts(self, ids: Sequence[str]) -> tuple[dict[str, Tweet], dict[str, str]]:
        """Posts by id, 100 to a request: those found, and for each of the others X's reason.

        https://docs.x.com/x-api/posts/post-lookup-by-post-ids
        """
        found: dict[str, Tweet] = {}
        missing: dict[str, str] = {}
        for batch in _batches(ids):
            body = self._lookup(batch, TWEET_FIELDS)
            here = {tweet.x_post_id: tweet for tweet in tweets_of(body)}
            found |= here
            missing |= reasons(body, [x_post_id for x_post_id in batch if x_post_id not in here])
        return found, missing

    def get_counts(self, ids: Sequence[str]) -> dict[str, Counts]:
        """Engagement of posts, 100 to a request; a post that is gone is left out.

        Clicks are there only for own posts under 30 days old. X may refuse a post altogether because of them, and then
        it is asked for again without them.
        https://docs.x.com/x-api/fundamentals/metrics
        """
        counts: dict[str, Counts] = {}
        for batch in _batches(ids):
            refused: list[str] = batch
            try:
                body = self._lookup(batch, PRIVATE_FIELDS)
            except errors.NotAllowed as error:
                if error.problem != PRIVATE_REFUSED:
                    raise
            else:
                counts |= counts_by_id(body)
                private = {subject_of(item) for item in problems_of(body) if problem_of(item) == PRIVATE_REFUSED}
                refused = [x_post_id for x_post_id in batch if x_post_id in private and x_post_id not in counts]
            if refused:
                counts |= counts_by_id(self._lookup(refused, PUBLIC_FIELDS))
        return counts

    def get_replies(self, x_post_id: str, conversation_id: str | None = None, max_posts: int = 100) -> list[Tweet]:
        """Direct replies to a post of the last seven days, newest first.

        Args:
            conversation_id: the post that began the conversation; X is asked for it if it is not given.
            max_posts: how many posts of the conversation are looked through.

        Raises:
            Gone: the post is not there.

        https://docs.x.com/x-api/posts/recent-search
        """
        if conversation_id is None:
            conversation_id = self._existing(x_post_id).conversation_id or x_post_id
        pages = self._requester.pages(
            Endpoint.SEARCH,
            self._client.search_recent_tweets,
            f"conversation_id:{conversation_id}",
            most=max_posts,
            smallest=10,
            token_name="next_token",  # noqa: S106 - the name of a parameter
        )
        return [tweet for tweet in _flat(pages, max_posts) if tweet.in_reply_to_post_id == x_post_id]

    def get_quotes(self, x_post_id: str, max_posts: int = 100) -> list[Tweet]:
        """Posts that quote a post, newest first. https://docs.x.com/x-api/posts/retrieve-posts-that-quote-a-post"""
        pages = self._requester.pages(
            Endpoint.QUOTES, self._client.get_quote_tweets, x_post_id, most=max_posts, smallest=10
        )
        return _flat(pages, max_posts)

    # Measuring

    def get_analytics(self, ids: Sequence[str], start: datetime, end: datetime) -> dict[str, dict[str, int]]:
        """Historical metrics of own posts between two world times, summed, by post and by X's name of the metric.

        https://docs.x.com/x-api/posts/get-historical-metrics-for-posts
        """
        totals: dict[str, dict[str, int]] = {}
        for batch in _batches(ids):
            params = {
                "ids": ",".join(batch),
                "start_time": _iso(start),
                "end_time": _iso(end),
                "granularity": "total",
                "analytics.fields": ANALYTICS_FIELDS,
            }
            # tweepy has no method for it.
            body = self._requester.read(
                Endpoint.ANALYTICS, self._client.request, "GET", "/2/tweets/analytics", params=params, items=len(batch)
            )
            totals |= analytics_by_id(body)
        return totals

    def get_engagement_metrics(self, tweet_id: str) -> dict[str, float]:
        """Everything X says about one own post now; what it does not say is left out.

        Counts under the names of `Counts`; `reposters`, `quoters` and `likers` are how many of them X lists (at most
        100); `historical_…` are the metrics of `get_analytics` since the post. It takes six requests: for many posts
        use `get_counts`.

        https://docs.x.com/x-api/users/returns-user-objects-that-have-retweeted-the-provided-post-id
        https://docs.x.com/x-api/posts/retrieve-posts-that-quote-a-post
        https://docs.x.com/x-api/users/returns-user-objects-that-have-liked-the-provided-post-id
        https://docs.x.com/x-api/posts/get-historical-metrics-for-posts

        Raises:
            Gone: the post is not there.
        """
        tweet = self._existing(tweet_id)
        counts = self.get_counts([tweet_id]).get(tweet_id, tweet.counts)
        metrics: dict[str, int | None] = {**asdict(counts)}
        metrics["reposters"] = _unless_refused(lambda: len(self.get_reposters(tweet_id)))
        metrics["quoters"] = _unless_refused(lambda: len(self.get_quotes(tweet_id)))
        metrics["likers"] = _unless_refused(lambda: len(self.get_likers(tweet_id)))
        since, now = tweet.created_at, clock.now()
        if _iso(since) < _iso(now):  # X wants the start before the end, to the second
            historical = _unless_refused(lambda: self.get_analytics([tweet_id], since, now)) or {}
            metrics |= {f"historical_{name}": value for name, value in historical.get(tweet_id, {}).items()}
        return {name: float(value) for name, value in metrics.items() if value is not None}

    # People

    def get_likers(self, x_post_id: str) -> list[XUser]:
        """Up to 100 users who liked a post; X never lists more.

        https://docs.x.com/x-api/users/returns-user-objects-that-have-liked-the-provided-post-id
        """
        return self._users(Endpoint.LIKERS, self._client.get_liking_users, x_post_id)

    def get_reposters(self, x_post_id: str) -> list[XUser]:
        """Up to 100 users who reposted a post.

        https://docs.x.com/x-api/users/returns-user-objects-that-have-retweeted-the-provided-post-id
        """
        return self._users(Endpoint.REPOSTERS, self._client.get_retweeters, x_post_id)

    def resolve_handles(self, handles: Sequence[str]) -> tuple[dict[str, XUser], dict[str, str]]:
        """Users by handle, with or without @, 100 to a request: those found, and for each of the others a reason.

        Both are keyed by the handle as given, without @. https://docs.x.com/x-api/users/user-lookup-by-usernames
        """
        plain = list(dict.fromkeys(handle.removeprefix("@") for handle in handles))
        wrong = "no handle: letters, digits and _ only, at most 15 of them"
        found: dict[str, XUser] = {}
        missing = {handle: wrong for handle in plain if not HANDLE.fullmatch(handle)}
        for batch in _batches([handle for handle in plain if handle not in missing]):
            body = self._requester.read(
                Endpoint.USERS_BY, self._client.get_users, usernames=batch, user_fields=USER_FIELDS, items=len(batch)
            )
            by_name = {user.handle.lower(): user for user in users_in(body.get("data"))}
            found |= {handle: by_name[handle.lower()] for handle in batch if handle.lower() in by_name}
            missing |= reasons(body, [handle for handle in batch if handle not in found])
        return found, missing

    def get_users(self, ids: Sequence[str]) -> dict[str, XUser]:
        """Users by id, 100 to a request; who is gone or suspended is left out.

        https://docs.x.com/x-api/users/user-lookup-by-ids
        """
        found: dict[str, XUser] = {}
        for batch in _batches(ids):
            body = self._requester.read(
                Endpoint.USERS, self._client.get_users, ids=batch, user_fields=USER_FIELDS, items=len(batch)
            )
            found |= {user.user_id: user for user in users_in(body.get("data"))}
        return found

    def me(self) -> XUser:
        """The account whose keys these are. https://docs.x.com/x-api/users/user-lookup-me"""
        welcome = self.introduce()
        if welcome.error is not None:
            raise welcome.error
        if welcome.user is None:
            raise errors.ServerUnavailable("the answer holds no user", endpoint=Endpoint.ME)
        return welcome.user

    def introduce(self) -> Welcome:
        """How X receives us: who it says we are, what its clock says, and what the keys may do.

        Raises:
            RateLimited, BudgetExhausted: nothing was asked.

        https://docs.x.com/x-api/users/user-lookup-me
        """
        asked_at = clock.wall_now()
        exchange, error = self._requester.ask(Endpoint.ME, self._client.get_me, user_fields=USER_FIELDS, items=1)
        answered_at = clock.wall_now()
        if exchange.answer is None:
            return Welcome(error=error)
        answer = exchange.answer
        data = (answer.body or {}).get("data")
        return Welcome(
            error=error,
            status=answer.status,
            user=user_of(data) if error is None and isinstance(data, dict) else None,
            clock_ahead=clock_ahead(answer.headers.get("Date"), asked_at, answered_at),
            access=answer.headers.get("x-access-level"),
        )

    def get_following(self, max_users: int = 1000) -> list[XUser]:
        """Whom the bot follows. https://docs.x.com/x-api/users/following-by-user-id"""
        users: list[XUser] = []
        token: str | None = None
        while len(users) < max_users:
            body = self._requester.read(
                Endpoint.FOLLOWING,
                self._client.get_users_following,
                self.user_id,
                max_results=BATCH,
                pagination_token=token,
                user_fields=USER_FIELDS,
                items=BATCH,
            )
            page, token = users_in(body.get("data")), next_token_of(body)
            users += page
            if token is None or not page:
                break
        return users[:max_users]

    # Acting

    def follow(self, user_id: str) -> FollowState:
        """Follow a user: following, or pending where the user has to agree, or wanted in a dry run.

        https://docs.x.com/x-api/users/follow-user
        """
        body = self._requester.write(Endpoint.FOLLOW, self._client.follow_user, user_id)
        if body is None:
            return FollowState.WANTED
        data = body.get("data")
        state = data if isinstance(data, dict) else {}
        if state.get("pending_follow") is True:
            return FollowState.PENDING
        if state.get("following") is True:
            return FollowState.FOLLOWING
        raise errors.ServerUnavailable("X did not say whether the bot follows now", endpoint=Endpoint.FOLLOW)

    def post_tweet(self, tweet: str) -> Sent:
        """Publish a post of the bot's own. https://docs.x.com/x-api/posts/creation-of-a-post"""
        return self._create(tweet)

    def reply_to_tweet(self, tweet_id: str, reply: str, *, summoned: bool = False) -> Sent:
        """Publish a reply. https://docs.x.com/x-api/posts/creation-of-a-post

        Args:
            summoned: the author called the bot; such a reply costs less.
        """
        return self._create(reply, summoned=summoned, in_reply_to_tweet_id=tweet_id)

    def quote_tweet(self, tweet_id: str, quote: str) -> Sent:
        """Publish a post that quotes another. https://docs.x.com/x-api/posts/creation-of-a-post"""
        return self._create(quote, quote_tweet_id=tweet_id)

    def delete_tweet(self, tweet_id: str) -> bool:
        """Take a post of the bot's own back; False in a dry run.

        https://docs.x.com/x-api/posts/post-delete-by-post-id

        Raises:
            Gone: it is not there any more.
        """
        body = self._requester.write(Endpoint.DELETE_POST, self._client.delete_tweet, tweet_id)
        if body is None:
            return False
        data = body.get("data")
        if isinstance(data, dict) and data.get("deleted") is True:
            return True
        raise errors.ServerUnavailable("X did not say whether the post is deleted", endpoint=Endpoint.DELETE_POST)

    # Beneath

    def _create(self, content: str, *, summoned: bool = False, **target: str) -> Sent:
        if not text.fits(content):
            length = text.weighted_length(content)
            raise errors.BadRequest(
                f"a post needs 1 to {text.MAX_WEIGHTED_LENGTH} weighted characters, this has {length}; shorten it",
                endpoint=Endpoint.CREATE_POST,
            )
        body = self._requester.write(
            Endpoint.CREATE_POST,
            self._client.create_tweet,
            text=content,
            url=text.has_link(content),
            summoned=summoned,
            **target,
        )
        if body is None:
            return Sent(x_post_id=None, dry=True, text=content)
        data = body.get("data")
        x_post_id = id_of(data.get("id")) if isinstance(data, dict) else None
        if x_post_id is None:
            raise errors.OutcomeUnknown("X's answer holds no id; look for the post", endpoint=Endpoint.CREATE_POST)
        return Sent(x_post_id=x_post_id, dry=False, text=content)

    def _existing(self, x_post_id: str) -> Tweet:
        found, missing = self.get_posts([x_post_id])
        if x_post_id not in found:
            raise errors.Gone(missing[x_post_id], endpoint=Endpoint.POSTS)
        return found[x_post_id]

    def _lookup(self, ids: Sequence[str], fields: str) -> Body:
        return self._requester.read(
            Endpoint.POSTS, self._client.get_tweets, list(ids), tweet_fields=fields, items=len(ids)
        )

    def _users(self, endpoint: Endpoint, method: Method, x_post_id: str) -> list[XUser]:
        body = self._requester.read(
            endpoint, method, x_post_id, max_results=BATCH, user_fields=USER_FIELDS, items=BATCH
        )
        return users_in(body.get("data"))

    def _cursor(self, source: Source) -> str | None:
        if self._db is None:
            return None
        with self._db.transaction() as session:
            return cursors.at(session, self.bot_id, source.value)


def authorization_of(user_id: str, bot_id: str, secrets: Secrets, db: Database | None) -> Authorization:
    """What the environment says: the four keys, or the tokens that `explorer login` has stored.

    Raises:
        ConfigError: something is missing, or the keys are another account's.
    """
    check_credentials(user_id, secrets)
    if not secrets.uses_oauth2:
        return Signature(secrets)
    if db is None or secrets.x_client_secret is None:
        problem, remedy = (
            "the tokens of OAuth 2.0 are in the database, and none was given",
            "give one, or the four keys",
        )
        raise ConfigError(f"X_CLIENT_ID: {problem}; {remedy}", [WrongSetting("X_CLIENT_ID", problem, remedy)])
    return RenewedBearer(TokenStore(db, bot_id, user_id, secrets.x_client_secret), secrets)


def _flat(pages: Iterable[Page], most: int) -> list[Tweet]:
    return [tweet for page in pages for tweet in page.tweets][:most]


def _batches(items: Sequence[str]) -> Iterator[list[str]]:
    distinct = list(dict.fromkeys(items))
    return (distinct[i : i + BATCH] for i in range(0, len(distinct), BATCH))


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _unless_refused(read: Callable[[], T]) -> T | None:
    """What a read gives, None where the tier does not have it."""
    try:
        return read()
    except errors.NotAllowed as error:
        log.info("x.metric_refused", error=str(error))
        return None
