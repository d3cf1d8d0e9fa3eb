"""Two of our bots, each of which answers whoever addresses it, left alone with each other: they stop by themselves."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import pytest
from author_life import accept_everything, make
from factories import BOT, give_checkpoint, give_draft, give_persona
from scripted_x import CANARIES, Reply, Request, ScriptedX, post, user

from app import clock
from app.config import SafetyConfig, Secrets
from app.posting import due_posts, queue_drafts, send_post
from app.reading import read_mentions
from app.x_interactor import XInteractor
from dbs.models import Bot, PersonaVersion
from dbs.states import Kind

ROUNDS = 16
IDS = {"1000001": BOT, "2000002": "second"}


@dataclass
class SmallX:
    """An X of two accounts that knows posts, replies and mentions."""

    posts: list[dict[str, Any]] = field(default_factory=list)
    ids: Any = field(default_factory=lambda: itertools.count(9000))

    def answer(self, request: Request) -> Reply:
        sender = next(user_id for user_id in IDS if f"{user_id}-" in request.headers["Authorization"])
        if request.method == "POST":
            return Reply(201, {"data": self._take(sender, request.body)})
        if request.path.endswith("/mentions"):
            since = int(request.query.get("since_id", 0))
            found = [item for item in self.posts if sender in _addressed(item) and int(item["id"]) > since]
            return self._page(found[::-1])
        return self._page([item for item in self.posts if item["id"] in request.query.get("ids", "").split(",")])

    def _take(self, sender: str, body: dict[str, Any]) -> dict[str, Any]:
        parent_id = body.get("reply", {}).get("in_reply_to_tweet_id")
        parent = next((item for item in self.posts if item["id"] == parent_id), None)
        facts: dict[str, Any] = {"author_id": sender, "created_at": clock.now().isoformat(), "text": body["text"]}
        if parent is not None:
            facts["conversation_id"] = parent["conversation_id"]
            facts["in_reply_to_user_id"] = parent["author_id"]
            facts["referenced_tweets"] = [{"type": "replied_to", "id": parent_id}]
            facts["entities"] = {"mentions": [{"username": IDS[parent["author_id"]], "id": parent["author_id"]}]}
        made = post(str(next(self.ids)), **facts)
        self.posts.append(made)
        return {"id": made["id"], "text": body["text"]}

    @staticmethod
    def _page(found: list[dict[str, Any]]) -> Reply:
        people = [user(user_id, handle) for user_id, handle in IDS.items()]
        return Reply(body={"data": found, "includes": {"users": people}, "meta": {"result_count": len(found)}})


def _addressed(item: dict[str, Any]) -> list[str]:
    return [mention["id"] for mention in item.get("entities", {}).get("mentions", [])]


def talk(x: ScriptedX, database, bot, config, model, safety: SafetyConfig) -> list[int]:
    """Let them talk; returns how many posts there were after each round."""
    small = SmallX()
    x.otherwise = small.answer
    bots = []
    for user_id, bot_id in IDS.items():
        own = config.model_copy(update={"user_id": user_id, "bot_id": bot_id, "safety": safety})
        token = CANARIES | {"x_access_token": f"{user_id}-CANARYtoken0000"}
        with database.transaction() as session:
            if bot_id != bot.bot_id:
                session.add(Bot(bot_id=bot_id, user_id=user_id, handle=bot_id, created_at=clock.now()))
                session.flush()
                session.add(
                    PersonaVersion(
                        bot_id=bot_id, version=1, name="Second", description="d", tone="t", interests=["trams"],
                        origin="config", state="current", created_at=clock.now(),
                    )
                )  # fmt: skip
            else:
                give_persona(session)
        client = XInteractor(
            user_id, live=True, timeout=5.0, secrets=Secrets(**token, x_base_url=x.url), db=database, bot_id=bot_id
        )
        bots.append((own, client, make(own, database, model)))
    with database.transaction() as session:
        give_draft(session, give_checkpoint(session, is_current=False, is_reference=False), "Trams!", kind=Kind.POST)
    counts = []
    for turn in range(ROUNDS):
        for config_of_one, client, author in bots:
            read_mentions(database, client, config_of_one)
            author.judge_seen()
            author.draft_selected()
            queue_drafts(database, config_of_one)
            for post_id in due_posts(database, config_of_one):
                send_post(database, client, config_of_one, post_id)
        if turn == 0:  # the second answers the first's post of its own, unasked
            small._take("2000002", {"text": "Which ones?", "reply": {"in_reply_to_tweet_id": small.posts[0]["id"]}})
        counts.append(len(small.posts))
    for _, client, _ in bots:
        client.close()
    return counts


@pytest.fixture
def all_pass(monkeypatch):
    accept_everything(monkeypatch)


@pytest.mark.usefixtures("all_pass")
def test_two_bots_stop_by_themselves(x, database, bot, config, model):
    counts = talk(x, database, bot, config, model, SafetyConfig(min_pause=0))
    caps = SafetyConfig()
    assert 4 <= counts[-1] <= 2 + 2 * caps.max_replies_per_conversation
    assert len(set(counts[-5:])) == 1, f"they were still talking: {counts}"


@pytest.mark.usefixtures("all_pass")
def test_without_the_caps_they_would_not(x, database, bot, config, model):
    safety = SafetyConfig(
        min_pause=0, max_replies_per_conversation=50, max_replies_per_author=500, max_posts_per_hour=300,
        max_posts_per_day=1000,
    )  # fmt: skip
    counts = talk(x, database, bot, config, model, safety)
    assert all(later > earlier for earlier, later in itertools.pairwise(counts)), counts
