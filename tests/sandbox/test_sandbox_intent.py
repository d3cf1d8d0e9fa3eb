"""X's own page in the sandbox: a person posts as the bot's account, whatever the API's tier."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
import requests
from fastapi.testclient import TestClient
from sandbox_server import BOT, Server, StartServer

from app.sandbox.server import create_app
from app.sandbox.settings import Settings

TEXT = 'How old is it?\n"Old" & <b>bold</b>'


@pytest.fixture
def self_serve(start_server: StartServer) -> Server:
    return start_server(options=("--tier", "pay-per-use"))


def target(server: Server) -> tuple[str, str]:
    """Id and author's handle of a post that did not call the bot."""
    member = server.client.get_user(username="noctuary", user_auth=True).data
    return str(server.client.get_users_tweets(member.id, user_auth=True).data[0].id), member.username


def test_a_person_replies_where_the_api_may_not(self_serve: Server) -> None:
    post_id, handle = target(self_serve)
    page = requests.get(f"{self_serve.base_url}/intent/post", params={"in_reply_to": post_id, "text": TEXT}, timeout=20)
    assert "Reply as @explorer_bot" in page.text
    filled = re.search(r"<textarea[^>]*>\n(.*?)</textarea>", page.text, re.DOTALL)
    assert filled is not None
    assert html.unescape(filled.group(1)) == TEXT
    assert "<b>bold" not in page.text
    before = self_serve.control("summary")["usd"]
    fields = {"in_reply_to": post_id, "text": TEXT.replace("\n", "\r\n")}
    sent = requests.post(f"{self_serve.base_url}/intent/post", data=fields, timeout=20)
    assert sent.status_code == 200
    assert self_serve.control("summary")["usd"] == before
    (own,) = self_serve.client.get_users_tweets(
        BOT, user_auth=True, tweet_fields=["referenced_tweets", "author_id"]
    ).data
    assert html.unescape(own.text) == f"@{handle} {TEXT}"
    assert [(above.type, str(above.id)) for above in own.referenced_tweets] == [("replied_to", post_id)]
    (record,) = self_serve.control("record")
    assert (record["path"], record["kind"], record["target"], record["id"]) == (
        "/intent/post", "reply", post_id, str(own.id),
    )  # fmt: skip
    again = requests.post(f"{self_serve.base_url}/intent/post", data=fields, timeout=20)
    assert (again.status_code, "You said that already" in again.text) == (422, True)


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"in_reply_to": "20", "text": "Hello"}, 404, "not there"),
        ({"in_reply_to": "no id", "text": "Hello"}, 404, "not there"),
        ({"text": "   "}, 422, "a post has 1 to 280"),
        ({"text": "long " * 80}, 422, "a post has 1 to 280"),
    ],
)
def test_what_cannot_be_posted_is_not(self_serve: Server, fields: dict[str, str], status: int, said: str) -> None:
    answer = requests.post(f"{self_serve.base_url}/intent/post", data=fields, timeout=20)
    assert answer.status_code == status
    assert said in answer.text
    assert self_serve.control("record") == []


def test_only_this_machine_posts_as_the_bot(tmp_path: Path) -> None:
    app = create_app(Settings(tmp_path))
    assert TestClient(app).get("/intent/post").status_code == 200
    elsewhere = TestClient(app, client=("192.0.2.1", 4000))
    assert elsewhere.get("/intent/post").status_code == 403
    assert elsewhere.post("/intent/post", data={"text": "Hello"}).status_code == 403
    app.state.world.store.close()
