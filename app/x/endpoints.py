"""The end-points of X API v2 that the bot uses. Their names are the keys of limits, prices and the ledger."""

from __future__ import annotations

from enum import StrEnum


class Endpoint(StrEnum):
    """Method and path as https://docs.x.com/x-api writes them, with parameters as `:id`."""

    HOME_TIMELINE = "GET /2/users/:id/timelines/reverse_chronological"
    USER_POSTS = "GET /2/users/:id/tweets"
    MENTIONS = "GET /2/users/:id/mentions"
    FOLLOWING = "GET /2/users/:id/following"
    POSTS = "GET /2/tweets"
    ANALYTICS = "GET /2/tweets/analytics"
    SEARCH = "GET /2/tweets/search/recent"
    QUOTES = "GET /2/tweets/:id/quote_tweets"
    LIKERS = "GET /2/tweets/:id/liking_users"
    REPOSTERS = "GET /2/tweets/:id/retweeted_by"
    USERS = "GET /2/users"
    USERS_BY = "GET /2/users/by"
    ME = "GET /2/users/me"
    FOLLOW = "POST /2/users/:id/following"
    CREATE_POST = "POST /2/tweets"
    DELETE_POST = "DELETE /2/tweets/:id"

    @property
    def writes(self) -> bool:
        """Whether a request changes something at X, so that a dry run must not send it."""
        return not self.value.startswith("GET ")

    @property
    def repeatable(self) -> bool:
        """Whether making a request twice does no more than making it once. Only a post is there twice."""
        return self is not Endpoint.CREATE_POST
