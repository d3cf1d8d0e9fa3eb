"""One session with every endpoint, as a bot has it. Run against the sandbox, or through a checking proxy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import requests
import tweepy
from requests_oauthlib import OAuth1

from app.sandbox.settings import Keys

TWEET_FIELDS = [
    "author_id", "conversation_id", "created_at", "display_text_range", "edit_controls", "entities",
    "in_reply_to_user_id", "lang", "possibly_sensitive", "public_metrics", "referenced_tweets",
    "reply_settings",
]  # fmt: skip
USER_FIELDS = [
    "created_at", "description", "location", "public_metrics", "protected", "verified", "verified_type", "url",
    "profile_image_url", "most_recent_tweet_id", "connection_status",
]  # fmt: skip
EXPANSIONS = [
    "author_id", "referenced_tweets.id", "referenced_tweets.id.author_id", "in_reply_to_user_id",
    "entities.mentions.username", "edit_history_tweet_ids",
]  # fmt: skip
POSTS: dict[str, Any] = {"tweet_fields": TWEET_FIELDS, "user_fields": USER_FIELDS, "expansions": EXPANSIONS}
USERS: dict[str, Any] = {
    "user_fields": USER_FIELDS,
    "tweet_fields": ["created_at", "public_metrics"],
    "expansions": ["most_recent_tweet_id", "pinned_tweet_id"],
}
HANDLES = ["mara_transit", "noctuary", "gridwatcher", "crumbandcrust", "deepsix_ana", "nobody_here"]


def analytics(client: tweepy.Client, **params: str) -> requests.Response:
    """The one endpoint that tweepy lacks, signed as tweepy signs."""
    keys = Keys()
    auth = OAuth1(keys.api_key, keys.api_secret, keys.access_token, keys.access_token_secret)
    return client.session.get("https://api.twitter.com/2/tweets/analytics", params=params, auth=auth)


def drive(client: tweepy.Client, bot: str, now: datetime) -> dict[str, Any]:
    """Call every endpoint once or more; what came back, by name."""
    found: dict[str, Any] = {}
    found["me"] = client.get_me(**{**USERS, "user_fields": USER_FIELDS})
    found["by_handles"] = client.get_users(usernames=HANDLES, user_auth=True, **USERS)
    users = found["by_handles"].data
    found["by_handle"] = client.get_user(username="noctuary", user_auth=True, **USERS)
    found["by_id"] = client.get_user(id=users[0].id, user_auth=True, **USERS)
    found["by_ids"] = client.get_users(ids=[users[0].id, 7], user_auth=True, **USERS)
    found["follow"] = [client.follow_user(user.id) for user in users]
    found["unfollow"] = client.unfollow_user(users[-1].id)
    found["following"] = client.get_users_following(bot, user_auth=True, max_results=1000, **USERS)
    found["followers"] = client.get_users_followers(users[0].id, user_auth=True, max_results=50, **USERS)
    found["bot_followers"] = client.get_users_followers(bot, user_auth=True)

    found["home"] = client.get_home_timeline(max_results=50, **POSTS)
    found["home_2"] = client.get_home_timeline(
        max_results=5, pagination_token=found["home"].meta["next_token"], **POSTS
    )
    home = found["home"].data
    found["home_new"] = client.get_home_timeline(since_id=home[0].id, **POSTS)
    found["home_quiet"] = client.get_home_timeline(exclude=["replies", "retweets"], **POSTS)
    found["posts"] = client.get_users_tweets(users[1].id, user_auth=True, max_results=5, **POSTS)
    found["posts_2"] = client.get_users_tweets(
        users[1].id, user_auth=True, max_results=5, pagination_token=found["posts"].meta["next_token"], **POSTS
    )
    found["span"] = client.get_users_tweets(
        users[1].id, user_auth=True, start_time=now - timedelta(hours=12), end_time=now - timedelta(hours=6), **POSTS
    )
    found["mentions"] = client.get_users_mentions(bot, user_auth=True, max_results=20, **POSTS)
    found["searched"] = client.search_recent_tweets("bread -is:retweet", user_auth=True, max_results=20, **POSTS)

    target = next(post for post in home if post.author_id != int(bot) and "referenced_tweets" not in post.data)
    found["target"] = target
    found["posted"] = client.create_tweet(
        text="I counted 41 swifts over the river, because the mill lights were off & dark."
    )
    found["replied"] = client.create_tweet(
        text="Thanks, I saw 12 of them too. Why do you think it changed?", in_reply_to_tweet_id=target.id
    )
    found["quoted"] = client.create_tweet(text="Worth reading: https://example.org/a?b=c#d", quote_tweet_id=target.id)
    own = [int(found[name].data["id"]) for name in ("posted", "replied", "quoted")]
    found["own"] = client.get_users_tweets(bot, user_auth=True, max_results=5, **POSTS)
    private = [*TWEET_FIELDS, "non_public_metrics", "organic_metrics"]
    found["looked_up"] = client.get_tweets(
        [*own, target.id, 20], user_auth=True, tweet_fields=private, user_fields=USER_FIELDS, expansions=EXPANSIONS
    )
    found["one"] = client.get_tweet(own[1], user_auth=True, **POSTS)
    found["missing"] = client.get_tweet(20, user_auth=True, **POSTS)
    old = min(found["home_2"].data, key=lambda post: post.id)
    popular = max(home, key=lambda post: post.public_metrics["like_count"])
    for post in (old, popular):
        found["likers"] = client.get_liking_users(post.id, user_auth=True, **USERS)
        found["reposters"] = client.get_retweeters(post.id, user_auth=True, max_results=2, **USERS)
    found["popular"] = client.get_tweet(popular.id, user_auth=True, **POSTS)
    found["quotes"] = client.get_quote_tweets(target.id, user_auth=True, max_results=10, **POSTS)
    found["conversation"] = client.search_recent_tweets(
        f"conversation_id:{target.conversation_id}", user_auth=True, max_results=10, **POSTS
    )
    found["deleted"] = client.delete_tweet(own[2])
    found["gone"] = client.get_tweets([own[2]], user_auth=True)
    found["analytics"] = analytics(
        client,
        ids=f"{own[0]},20",
        start_time=(now - timedelta(hours=2)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        end_time=(now + timedelta(hours=6)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        granularity="hourly",
        **{"analytics.fields": "impressions,likes,retweets,replies,quote_tweets,engagements"},
    )
    return found
