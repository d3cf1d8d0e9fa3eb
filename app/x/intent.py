"""X's own page for answering a post, with a text filled in: a person sends it, and the API is not asked.

https://docs.x.com/x-for-websites/web-intents/overview
"""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

WEB = "https://x.com"
API_HOSTS = frozenset({"api.twitter.com", "api.x.com"})


def origin(base_url: str) -> str:
    """Where the pages are of the X whose API is at `base_url`: X's own, or those of a sandbox.

    >>> origin("https://api.twitter.com"), origin("http://127.0.0.1:8080/")
    ('https://x.com', 'http://127.0.0.1:8080')
    """
    return WEB if urlsplit(base_url).hostname in API_HOSTS else base_url.rstrip("/")


def reply_page(base_url: str, x_post_id: str, text: str) -> str:
    """The address at which a person may answer a post with a text.

    >>> reply_page("https://api.x.com", "42", "Why? & how")
    'https://x.com/intent/post?in_reply_to=42&text=Why%3F+%26+how'
    """
    return f"{origin(base_url)}/intent/post?{urlencode({'in_reply_to': x_post_id, 'text': text})}"
