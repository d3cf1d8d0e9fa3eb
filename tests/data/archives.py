"""Archives as X hands them out: a zip with an account and its posts in it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.data.sources import ArchiveSource

SAID: list[dict[str, Any]] = [
    {"id_str": "20", "full_text": "Just setting up my tram map &amp; more.", "lang": "en", "favorite_count": "12",
     "retweet_count": "3", "created_at": "Wed Oct 10 20:19:24 +0000 2018"},
    {"id_str": "21", "full_text": "@ada And the second part of it.", "lang": "en", "in_reply_to_status_id_str": "55",
     "favorite_count": 0, "created_at": "Wed Oct 10 20:20:24 +0000 2018"},
    {"id_str": "22", "full_text": "RT @ada: not mine", "lang": "en", "created_at": "Wed Oct 10 20:21:24 +0000 2018"},
]  # fmt: skip


def archive(path: Path, *parts: Sequence[dict[str, Any]], account: str | None = "1000001") -> ArchiveSource:
    """A zip as X makes it; each part is a file of tweets."""
    with zipfile.ZipFile(path, "w") as made:
        if account is not None:
            made.writestr(
                "data/account.js", f'window.YTD.account.part0 = [{{"account": {{"accountId": "{account}"}}}}]'
            )
        for number, posts in enumerate(parts or (SAID,)):
            name = "tweets.js" if number == 0 else f"tweets-part{number}.js"
            made.writestr(
                f"data/{name}", f"window.YTD.tweets.part{number} = {json.dumps([{'tweet': p} for p in posts])}"
            )
    return ArchiveSource(path)
