"""The console over real HTTP: nobody without the password, no action without a form of ours, what each action does."""

from __future__ import annotations

import re
import time
import uuid
from datetime import timedelta

import pytest
from console_life import PASSWORD, Browser, waiting
from factories import BOT, give_checkpoint, give_draft, give_seen
from sqlalchemy import select

from app import clock
from app.config import VibeBotConfig
from app.connectors.community_db import CommunityDB
from app.console import security
from app.learning.reward import refusal_terms
from app.posting import queue_drafts
from app.x.types import XUser
from dbs.models import Checkpoint, Draft, EarlierPost, Event, GateVerdict, LedgerEntry, Loop, Membership, Post, Reward
from dbs.session import Database
from dbs.states import DraftState, Kind

PAGES = (
    "/",
    "/feed",
    "/feed?show=ignored",
    "/feed?show=refused",
    "/feed?show=earlier",
    "/approvals",
    "/copilot",
    "/learning",
    "/community",
    "/costs",
)
NASTY = '<script>alert("1")</script> & <img src=x onerror=alert(2)>'


def kinds(database: Database) -> set[str]:
    with database.transaction() as session:
        return set(session.scalars(select(Event.kind).where(Event.bot_id == BOT)))


@pytest.mark.parametrize("path", [*PAGES, "/admin/", "/costs/days.csv", "/learning/rewards.svg", "/feed/reward/x"])
def test_nobody_sees_anything_without_the_password(url: str, path: str) -> None:
    answer = Browser(url).see(path)
    assert answer.url == f"{url}/login"
    assert "Password of the console" in answer.text


def test_a_wrong_password_is_refused_and_guessing_has_to_wait(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security, "WAIT_SECONDS", 1.0)
    browser = Browser(url)
    for _ in range(security.FAILURES):
        answer = browser.sign_in("a-wrong-one")
        assert answer.status_code == 401
        assert "That is not the password" in answer.text
    assert browser.sign_in(PASSWORD).status_code == 429
    time.sleep(1.1)
    assert browser.sign_in(PASSWORD).status_code == 200


@pytest.mark.parametrize("token", ["", "guessed", None])
def test_no_action_without_a_form_of_this_session(
    url: str, browser: Browser, database: Database, token: str | None
) -> None:
    fields = {} if token is None else {"token": token}
    assert browser.post(f"{url}/pause", data=fields).status_code == 403
    with database.transaction() as session:
        assert not session.scalars(select(Loop).where(Loop.paused)).all()


def test_an_action_of_nobody_ends_at_the_login(url: str, database: Database) -> None:
    answer = Browser(url).act("/pause")
    assert answer.url == f"{url}/login"
    with database.transaction() as session:
        assert not session.scalars(select(Loop).where(Loop.paused)).all()


def test_what_a_browser_is_told(browser: Browser) -> None:
    headers = browser.see("/").headers
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    cookie = Browser(browser.url).post(f"{browser.url}/login", data={"password": PASSWORD}, allow_redirects=False)
    assert {"httponly", "samesite=strict"} <= {part.strip().lower() for part in cookie.headers["Set-Cookie"].split(";")}


def test_everything_is_held_at_once_and_let_go(browser: Browser, database: Database) -> None:
    page = browser.act("/pause", reason="a look at the drafts")
    assert "paused" in page.text
    with database.transaction() as session:
        rows = session.scalars(select(Loop)).all()
        assert all(row.paused for row in rows)
        assert {row.paused_reason for row in rows} == {"a look at the drafts"}
    browser.act("/resume", loop="timeline")
    with database.transaction() as session:
        assert session.scalars(select(Loop.loop).where(Loop.paused.is_(False))).all() == ["timeline"]
    browser.act("/resume")
    with database.transaction() as session:
        assert not session.scalars(select(Loop).where(Loop.paused)).all()
    assert {"console.pause", "console.resume", "loops.paused", "loops.resumed"} <= kinds(database)


def test_a_draft_is_approved_as_it_is_or_as_a_person_says_it(
    browser: Browser, database: Database, config: VibeBotConfig, checkpoint: Checkpoint
) -> None:
    one = waiting(database, config, checkpoint, "The first text,\nof two lines.")
    other = waiting(database, config, checkpoint, "The second text.")
    page = browser.see("/approvals")
    assert "The first text,\nof two lines." in page.text
    browser.act(f"/approvals/{one}/approve", text="The first text,\r\nof two lines.")
    browser.act(f"/approvals/{other}/approve", text="As a person would say it.")
    assert queue_drafts(database, config) == 2
    with database.transaction() as session:
        posts = {post.draft_id: post for post in session.scalars(select(Post))}
    assert (posts[one].content, posts[one].edited) == ("The first text,\nof two lines.", False)
    assert (posts[other].content, posts[other].edited) == ("As a person would say it.", True)
    assert "console.approve" in kinds(database)


def test_a_draft_is_rejected_and_what_is_decided_stays_decided(
    browser: Browser, database: Database, config: VibeBotConfig, checkpoint: Checkpoint
) -> None:
    draft_id = waiting(database, config, checkpoint, "A text that nobody wants.")
    browser.act(f"/approvals/{draft_id}/reject", reason="dull")
    answer = browser.act(f"/approvals/{draft_id}/approve", text="A text that nobody wants.")
    assert answer.status_code == 409
    assert "does not wait any more" in answer.text
    long = browser.act(f"/approvals/{waiting(database, config, checkpoint, 'Short.')}/approve", text="long " * 90)
    assert long.status_code == 409
    assert "a post has 1 to 280" in long.text
    with database.transaction() as session:
        row = session.get_one(Draft, draft_id)
        assert (row.state, row.reject_reason) == (DraftState.REJECTED, "dull")


def test_a_bot_without_co_pilot_mode_says_so(browser: Browser) -> None:
    assert "Co-pilot mode is off" in browser.see("/copilot").text


def test_texts_of_strangers_are_shown_and_never_obeyed(
    browser: Browser, database: Database, config: VibeBotConfig, checkpoint: Checkpoint
) -> None:
    with database.transaction() as session:
        CommunityDB(session, BOT).upsert([XUser(user_id="7", handle="nasty", bio=NASTY)])
        CommunityDB(session, BOT).meet(["7"])
        give_seen(session, "55", "7", text=NASTY)
        give_draft(session, checkpoint, NASTY, kind=Kind.REPLY, target_post_id="55", target_author_id="7")
        session.add(GateVerdict(
            bot_id=BOT, checkpoint_id=checkpoint.checkpoint_id, incumbent_id=checkpoint.checkpoint_id, profile="demo",
            passed=False, numbers={"a": NASTY}, reasons=[NASTY], judged_at=clock.now(),
            samples=[{"kind": "reply", "answers": NASTY, "incumbent": NASTY, "candidate": NASTY,
                      "candidate_refused_by": None}],
        ))  # fmt: skip
    waiting(database, config, checkpoint, NASTY)
    for path in (*PAGES, f"/learning/checkpoints/{checkpoint.checkpoint_id}"):
        page = browser.see(path)
        assert page.status_code == 200, path
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text
    assert "&lt;script&gt;alert" in browser.see("/approvals").text


def test_the_feed_shows_what_was_said_and_opens_its_reward(
    browser: Browser, database: Database, config: VibeBotConfig, checkpoint: Checkpoint
) -> None:
    with database.transaction() as session:
        give_seen(session, "55", "7")
        draft = give_draft(
            session, checkpoint, "Low in the east, before dawn.", kind=Kind.REPLY, target_post_id="55",
            target_author_id="7", state=DraftState.REJECTED, reject_rule="too_long", reject_reason="300 characters",
        )  # fmt: skip
        session.add(Reward(
            draft_id=draft.draft_id, bot_id=BOT, reward_version="1", reward=-2.0, computed_at=clock.now(),
            terms=refusal_terms("too_long", floor=-2.0),
        ))  # fmt: skip
    page = browser.see("/feed?show=refused")
    assert "Post 55: the comet passes at 3:40" in page.text
    assert "refused by too_long: 300 characters" in page.text
    assert "reward -2.00: refused by the rule too_long" in browser.see(f"/feed/reward/{draft.draft_id}").text
    assert browser.see(f"/feed/reward/{uuid.uuid4()}").status_code == 404
    assert "Low in the east" not in browser.see("/feed").text


def test_the_feed_shows_what_the_account_posted_before_the_bot(
    browser: Browser, database: Database, checkpoint: Checkpoint
) -> None:
    with database.transaction() as session:
        for number in range(30):
            session.add(EarlierPost(
                bot_id=BOT, x_post_id=str(number), content=f"{NASTY} number {number:02}", text_hash=str(number),
                posted_at=clock.now() - timedelta(days=number), likes=number or None, retweets=None,
                target_post_id="55" if number == 1 else None, read_at=clock.now(),
            ))  # fmt: skip
    first = browser.see("/feed?show=earlier").text
    assert NASTY not in first
    assert "number 00" in first
    assert "<p>1 likes, when the archive was made</p>" in first
    assert first.count("likes, when the archive was made") == 24, "NULL is not zero"
    older = re.search(r'href="([^"]+)">Older<', first)
    assert older is not None
    assert "number 29" in browser.see(older.group(1).replace("&amp;", "&")).text
    assert "number 00" not in browser.see("/feed").text


def test_the_feed_goes_back_in_time(browser: Browser, database: Database, checkpoint: Checkpoint) -> None:
    with database.transaction() as session:
        for number in range(30):
            give_draft(session, checkpoint, f"Draft number {number:02}.", state=DraftState.REJECTED, reject_rule="link",
                       reject_reason="it holds a link", created_at=clock.now() - timedelta(minutes=number))  # fmt: skip
    first = browser.see("/feed?show=refused").text
    assert "Draft number 00." in first
    assert "Draft number 25." not in first
    older = re.search(r'href="([^"]+)">Older<', first)
    assert older is not None
    second = browser.see(older.group(1).replace("&amp;", "&")).text
    assert "Draft number 25." in second
    assert "Draft number 24." not in second


def test_a_policy_is_set(browser: Browser, database: Database) -> None:
    with database.transaction() as session:
        CommunityDB(session, BOT).upsert([XUser(user_id="7", handle="Ada")])
        CommunityDB(session, BOT).meet(["7"])
    assert "@Ada" in browser.see("/community").text
    browser.act("/community/Ada/policy", policy="watch")
    assert browser.act("/community/nobody/policy", policy="watch").status_code == 404
    assert browser.act("/community/Ada/policy", policy="adore").status_code == 422
    with database.transaction() as session:
        assert session.get_one(Membership, (BOT, "7")).reply_policy == "watch"


def test_a_checkpoint_is_served_and_rolled_back_by_hand(
    browser: Browser, database: Database, checkpoint: Checkpoint
) -> None:
    with database.transaction() as session:
        give_checkpoint(session, is_current=False, is_reference=False, parent_id=checkpoint.checkpoint_id)
    answer = browser.act("/learning/rollback")
    assert answer.status_code == 409
    assert "has no parent" in answer.text
    assert browser.act(f"/learning/checkpoints/{uuid.uuid4()}/promote").status_code == 409
    with database.transaction() as session:
        assert session.get_one(Checkpoint, checkpoint.checkpoint_id).is_current


def test_plots_can_be_kept_with_their_data(browser: Browser, database: Database, checkpoint: Checkpoint) -> None:
    with database.transaction() as session:
        for number, value in enumerate((1.0, 2.0, -1.0)):
            draft = give_draft(session, checkpoint, f"Text {number} of some words.")
            session.add(Reward(draft_id=draft.draft_id, bot_id=BOT, reward_version="1", reward=value,
                               computed_at=clock.now(), terms={}))  # fmt: skip
        for hours, cost in ((30, 0.25), (1, 0.5)):
            session.add(LedgerEntry(bot_id=BOT, endpoint="GET /2/tweets", at=clock.now() - timedelta(hours=hours),
                                    reserved_usd=1, cost_usd=cost, units=3, outcome="ok"))  # fmt: skip
    for path in ("/learning/rewards.svg", "/costs/days.svg"):
        plot = browser.get(browser.url + path)
        assert plot.headers["Content-Type"] == "image/svg+xml"
        assert "<svg" in plot.text
        assert "<script" not in plot.text
    lines = browser.get(f"{browser.url}/learning/rewards.csv").text.splitlines()
    assert lines[1].startswith(f"{checkpoint.checkpoint_id},base,3,0.666")
    assert (
        sum(float(line.split(",")[1]) for line in browser.get(f"{browser.url}/costs/days.csv").text.splitlines()[1:])
        == 0.75
    )
    assert "GET /2/tweets" in browser.see("/costs").text


def test_raw_rows_are_there_to_read_only(browser: Browser, database: Database, checkpoint: Checkpoint) -> None:
    with database.transaction() as session:
        give_draft(session, checkpoint, "A row to look at.")
    listed = browser.get(f"{browser.url}/admin/draft/list")
    assert listed.status_code == 200
    assert "A row to look at." in listed.text
    assert "/admin/draft/create" not in listed.text
    assert "oauth2" not in listed.text.lower()  # neither in the menu nor by its address
    assert browser.get(f"{browser.url}/admin/o-auth2-tokens/list").status_code == 404
    assert browser.get(f"{browser.url}/admin/oauth2-tokens/list").status_code == 404
    assert browser.get(f"{browser.url}/admin/draft/create").status_code == 403


def test_signing_out_ends_it(browser: Browser) -> None:
    browser.act("/logout")
    assert "Password of the console" in browser.see("/feed").text
