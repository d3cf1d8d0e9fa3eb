"""The co-pilot page over real HTTP, against a sandbox: a whole round, and what cannot be done."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from console_life import Browser
from copilot_life import DRAFTS, Round, begin
from factories import give_offer
from sandbox_server import Server
from sqlalchemy import select

from app.config import VibeBotConfig
from dbs.models import Checkpoint, Draft, Engagement, Event, Post, Preference
from dbs.session import Database
from dbs.states import DraftState, PostState


@pytest.fixture
def config(copilot_config: VibeBotConfig) -> VibeBotConfig:
    return copilot_config


@pytest.fixture
def offered(database: Database, config: VibeBotConfig, checkpoint: Checkpoint, self_serve: Server) -> Round:
    return begin(database, config, checkpoint, self_serve, "noctuary")


def choose(browser: Browser, draft: Draft, text: str) -> requests.Response:
    browser.see("/copilot")
    fields = {"token": browser.token, "text": text}
    return browser.post(f"{browser.url}/copilot/{draft.draft_id}/choose", data=fields, allow_redirects=False)


def test_a_round_ends_with_a_measured_post_that_the_api_never_sent(
    browser: Browser, database: Database, offered: Round
) -> None:
    page = browser.see("/copilot")
    assert "Co-pilot mode is off" not in page.text
    assert all(text in page.text for text in (*DRAFTS, "@noctuary wrote"))
    assert "1 post waits for your choice" in browser.see("/").text
    answer = choose(browser, offered.drafts[0], "Which did you see first,\r\nand from where?")
    assert answer.status_code == 303
    address = answer.headers["Location"]
    assert address.startswith(f"{offered.server.base_url}/intent/post?")
    filled = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    assert filled == {"in_reply_to": offered.x_post_id, "text": "Which did you see first,\nand from where?"}
    assert offered.look() == 0  # the page is open, and nothing is posted yet
    page = browser.see("/copilot").text
    assert "No post waits for a choice." in page
    assert "not seen on the timeline yet" in page
    assert address.replace("&", "&amp;") in page

    assert requests.post(f"{offered.server.base_url}/intent/post", data=filled, timeout=20).status_code == 200
    assert offered.look() == 1
    assert offered.measure() == 1
    with database.transaction() as session:
        post = session.scalars(select(Post)).one()
        assert (post.state, post.sent_by, post.edited) == (PostState.POSTED, "person", True)
        assert session.scalars(select(Engagement.post_id)).one() == post.post_id
        pair = session.scalars(select(Preference)).one()
        assert (pair.chosen_draft_id, pair.rejected_draft_id) == tuple(draft.draft_id for draft in offered.drafts)
        assert pair.edited_text == post.content
        assert {"console.choose", "copilot.chosen", "copilot.seen"} <= set(session.scalars(select(Event.kind)))
    record = offered.server.control("record")
    assert [(row["path"], row["target"]) for row in record] == [("/intent/post", offered.x_post_id)]
    assert record[0]["id"] == post.x_post_id
    assert "not seen on the timeline yet" not in browser.see("/copilot").text
    assert "sent by a person" in browser.see("/feed").text


def test_both_are_dismissed_with_a_reason(browser: Browser, database: Database, offered: Round) -> None:
    browser.see("/copilot")
    browser.act(f"/copilot/{offered.x_post_id}/dismiss", reason="dull")
    answer = browser.act(f"/copilot/{offered.x_post_id}/dismiss")
    assert (answer.status_code, "no drafts for it are offered any more" in answer.text) == (409, True)
    with database.transaction() as session:
        rows = session.scalars(select(Draft)).all()
        assert {(row.state, row.reject_reason) for row in rows} == {(DraftState.REJECTED, "dull")}
        assert "console.dismiss" in set(session.scalars(select(Event.kind)))


def test_what_cannot_be_chosen_leads_back_and_not_to_x(browser: Browser, offered: Round) -> None:
    long = choose(browser, offered.drafts[0], "long " * 90)
    assert (long.status_code, "a post has 1 to 280" in long.text) == (409, True)
    assert choose(browser, offered.drafts[0], DRAFTS[0]).status_code == 303
    late = choose(browser, offered.drafts[1], DRAFTS[1])
    assert (late.status_code, "not offered any more" in late.text) == (409, True)


def test_no_choice_without_a_form_of_this_session(browser: Browser, database: Database, offered: Round) -> None:
    place = f"{browser.url}/copilot/{offered.drafts[0].draft_id}/choose"
    assert browser.post(place, data={"text": DRAFTS[0], "token": "guessed"}).status_code == 403
    dismissing = f"{browser.url}/copilot/{offered.x_post_id}/dismiss"
    assert browser.post(dismissing, data={"token": ""}).status_code == 403
    with database.transaction() as session:
        assert set(session.scalars(select(Draft.state))) == {DraftState.OFFERED}


def test_forms_of_this_page_alone_may_end_at_x(browser: Browser, self_serve: Server) -> None:
    assert f"form-action 'self' {self_serve.base_url};" in browser.see("/copilot").headers["Content-Security-Policy"]
    assert "form-action 'self';" in browser.see("/approvals").headers["Content-Security-Policy"]


def test_texts_of_strangers_are_shown_and_never_obeyed(
    browser: Browser, database: Database, checkpoint: Checkpoint
) -> None:
    nasty = '</textarea><script>alert("1")</script>'
    with database.transaction() as session:
        give_offer(session, checkpoint, "77", nasty, f"{nasty} again", text=nasty)
    page = browser.see("/copilot").text
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert") == 3
