"""An X far away: each answer takes as long as the environment says. `uvicorn benchmarks.slow_x:app`.

It knows what measuring asks for: counts of posts by id, and the replies to those posts that have one.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from fastapi import FastAPI, Response

LATENCY = float(os.environ.get("SLOW_X_SECONDS", "0.2"))
ONE_IN = int(os.environ.get("SLOW_X_ANSWERED_ONE_IN", "10"))  # so many posts, one has a reply
WIDE = "1000000"  # no window ends: what is timed is the work, not X's permission

app = FastAPI()


@app.get("/2/tweets")
async def posts(ids: str, response: Response) -> dict[str, Any]:
    await _far_away(response)
    return {"data": [{"id": x_post_id, "public_metrics": _counts(x_post_id)} for x_post_id in ids.split(",")]}


@app.get("/2/tweets/search/recent")
async def search(query: str, response: Response) -> dict[str, Any]:
    await _far_away(response)
    conversation = query.partition(":")[2]
    reply = {
        "id": f"9{conversation}",
        "text": "Where was that?",
        "author_id": "77",
        "created_at": "2026-01-05T08:00:00.000Z",
        "conversation_id": conversation,
        "referenced_tweets": [{"type": "replied_to", "id": conversation}],
    }
    return {"data": [reply], "meta": {"result_count": 1}}


def _counts(x_post_id: str) -> dict[str, int]:
    replies = int(int(x_post_id) % ONE_IN == 0)
    return {"like_count": 1, "retweet_count": 0, "quote_count": 0, "reply_count": replies}


async def _far_away(response: Response) -> None:
    await asyncio.sleep(LATENCY)
    reset = str(int(time.time()) + 900)
    for name, value in (("limit", WIDE), ("remaining", WIDE), ("reset", reset)):
        response.headers[f"x-rate-limit-{name}"] = value
