"""The console in a real browser: what a person does, at two widths and in both colour schemes, judged by axe, too.

Screenshots are left in `data/screenshots`, to be looked at.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from console_life import PASSWORD, waiting
from copilot_life import DRAFTS, Round, begin
from factories import give_checkpoint, give_draft, give_offer, give_seen
from sandbox_server import Server
from sqlalchemy import select

from app import clock
from app.config import VibeBotConfig
from app.connectors.community_db import CommunityDB
from app.posting import queue_drafts
from app.x.types import XUser
from dbs.models import Checkpoint, Draft, EarlierPost, GateVerdict, LedgerEntry, Loop, Post, Preference, Reward
from dbs.session import Database

# `make test` collects this file without running it, and has no Playwright: `make test-browser` installs it.
playwright = pytest.importorskip("playwright.sync_api", reason="pip install '.[browser]', or `make test-browser`")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install '.[browser]'")

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

SCREENSHOTS = Path("data/screenshots")
PAGES = (
    "/", "/feed", "/feed?show=refused", "/feed?show=earlier", "/approvals", "/copilot", "/learning", "/community",
    "/costs",
)  # fmt: skip
LOOKS = [(width, scheme) for width in (390, 1440) for scheme in ("light", "dark")]


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if found is None:
        pytest.fail("no Chromium on the path: install the package chromium")  # who runs these has asked for a browser
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def lived(database: Database, config: VibeBotConfig, checkpoint: Checkpoint) -> None:
    """Something on every page."""
    with database.transaction() as session:
        CommunityDB(session, "explorer").upsert([XUser(user_id="7", handle="ada", bio="trams", followers=900)])
        CommunityDB(session, "explorer").meet(["7"])
        give_seen(session, "55", "7")
        give_offer(session, checkpoint, "56", *DRAFTS)
        candidate = give_checkpoint(session, kind="ppo", state="refused", is_current=False, is_reference=False)
        for number in range(5):
            draft = give_draft(session, checkpoint, f"Draft {number} that a rule refused.", state="rejected",
                               reject_rule="link", reject_reason="it holds a link")  # fmt: skip
            session.add(Reward(draft_id=draft.draft_id, bot_id="explorer", reward_version="1", reward=number / 5 - 1,
                               computed_at=clock.now(), terms={}))  # fmt: skip
        session.add(LedgerEntry(bot_id="explorer", endpoint="GET /2/tweets", at=clock.now(), reserved_usd=1,
                                cost_usd=0.25, units=50, outcome="ok"))  # fmt: skip
        session.add(EarlierPost(
            bot_id="explorer", x_post_id="31", content="What the account said before there was a bot.", text_hash="31",
            posted_at=clock.now() - timedelta(days=400), likes=7, retweets=None, target_post_id="30",
            read_at=clock.now(),
        ))  # fmt: skip
        session.add(GateVerdict(
            bot_id="explorer", checkpoint_id=candidate.checkpoint_id, incumbent_id=checkpoint.checkpoint_id,
            profile="production", passed=False, numbers={"ess": 71.5}, reasons=["words: 9, at least 11"],
            judged_at=clock.now(),
            samples=[{"kind": "reply", "answers": "The comet passes tonight.", "incumbent": "Low in the east?",
                      "candidate": "Comets!", "candidate_refused_by": None}],
        ))  # fmt: skip
    waiting(database, config, checkpoint, "The first text that waits.")
    waiting(database, config, checkpoint, "The second text that waits.")


@pytest.fixture(params=LOOKS, ids=lambda look: f"{look[0]}-{look[1]}")
def page(request: pytest.FixtureRequest, chromium: object, url: str, lived: None) -> Iterator[object]:
    width, scheme = request.param
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, base_url=url)
    page = context.new_page()
    page.look, page.complaints = f"{width}-{scheme}", []
    page.on("console", lambda said: page.complaints.append(said.text) if said.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto("/login")
    page.get_by_label("Password of the console").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    yield page
    context.close()


def test_every_page_can_be_read_by_anybody(page) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for path in PAGES:
        page.goto(path)
        name = path.strip("/").replace("?show=", "-") or "now"
        page.screenshot(path=SCREENSHOTS / f"{name}-{page.look}.png", full_page=True)
        found = axe.Axe().run(page).response["violations"]
        assert [(item["id"], item["nodes"][0]["html"]) for item in found] == [], path
        sideways = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(sideways) == 0, f"{path} scrolls sideways"
    page.goto("/learning")
    page.get_by_role("link", name="ppo").first.click()
    page.screenshot(path=SCREENSHOTS / f"checkpoint-{page.look}.png", full_page=True)
    assert page.get_by_text("words: 9, at least 11").is_visible()
    assert axe.Axe().run(page).response["violations"] == []
    assert page.complaints == []


def test_a_draft_is_approved_by_keys(page, database: Database, config: VibeBotConfig) -> None:
    page.goto("/approvals")
    page.keyboard.press("j")
    page.keyboard.press("e")
    page.keyboard.press("Control+A")
    page.keyboard.type("As a person says it.")
    page.keyboard.press("Escape")
    with page.expect_navigation():
        page.keyboard.press("a")
    page.keyboard.press("j")
    with page.expect_navigation():
        page.keyboard.press("r")
    assert page.get_by_text("No draft waits for a person.").is_visible()
    assert queue_drafts(database, config) == 1
    with database.transaction() as session:
        assert session.scalars(select(Post.content)).all() == ["As a person says it."]
    assert page.complaints == []


class TestCopilot:
    """A round of co-pilot against a sandbox; its page at X is the sandbox's own."""

    @pytest.fixture
    def config(self, copilot_config: VibeBotConfig) -> VibeBotConfig:
        return copilot_config

    @pytest.fixture
    def lived(
        self, database: Database, config: VibeBotConfig, checkpoint: Checkpoint, self_serve: Server
    ) -> tuple[Round, Round]:
        return tuple(begin(database, config, checkpoint, self_serve, handle) for handle in ("noctuary", "gridwatcher"))

    def test_a_person_picks_edits_and_posts_at_x(self, page, database: Database, lived: tuple[Round, Round]) -> None:
        first, other = lived
        self._look_at(page, "offered")
        page.goto("/copilot")
        box = page.get_by_role("article").filter(has_text="@noctuary").get_by_label("Draft 2")
        box.fill("I wondered about that & went to look, since the mill was closed.")
        with page.context.expect_page() as opened:
            box.locator("xpath=..").get_by_role("button").click()
        at_x = opened.value
        at_x.wait_for_load_state()
        assert at_x.url.startswith(f"{first.server.base_url}/intent/post?in_reply_to={first.x_post_id}&")
        assert at_x.get_by_label("Your text").input_value() == box.input_value()
        at_x.get_by_role("button", name="Reply").click()
        assert at_x.get_by_text("Your post was sent").is_visible()
        at_x.close()
        page.evaluate("window.dispatchEvent(new Event('focus'))")  # without a screen no page ever loses it
        page.get_by_role("heading", name="Chosen, and not seen on the timeline yet").wait_for()
        self._look_at(page, "chosen")
        assert first.look() == 1
        with database.transaction() as session:
            post, pair = session.scalars(select(Post)).one(), session.scalars(select(Preference)).one()
        assert (post.state, post.sent_by, post.edited) == ("posted", "person", True)
        assert (pair.chosen_draft_id, pair.rejected_draft_id) == (first.drafts[1].draft_id, first.drafts[0].draft_id)
        assert first.measure() == 1
        assert {row["path"] for row in first.server.control("record")} == {"/intent/post"}
        page.goto("/copilot")
        assert page.get_by_text("@gridwatcher wrote").is_visible()
        assert not page.get_by_text("@noctuary wrote").is_visible()
        assert page.complaints == []
        assert other.drafts[0].draft_id != pair.chosen_draft_id

    def test_it_goes_by_keys(self, page, database: Database, lived: tuple[Round, Round]) -> None:
        page.goto("/copilot")
        page.keyboard.press("j")
        page.keyboard.press("Shift+E")
        page.keyboard.press("Control+A")
        page.keyboard.type("As a person says it.")
        page.keyboard.press("Escape")
        with page.context.expect_page() as opened:
            page.keyboard.press("2")
        opened.value.wait_for_load_state()
        assert opened.value.get_by_label("Your text").input_value() == "As a person says it."
        opened.value.close()
        page.goto("/copilot")
        page.keyboard.press("j")
        with page.expect_navigation():
            page.keyboard.press("r")
        assert page.get_by_text("No post waits for a choice.").is_visible()
        with database.transaction() as session:
            rules = sorted(str(rule) for rule in session.scalars(select(Draft.reject_rule)))
        assert rules == ["None", "not_chosen", "person", "person"]
        assert page.complaints == []

    @staticmethod
    def _look_at(page, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.goto("/copilot")
        page.screenshot(path=SCREENSHOTS / f"copilot-{name}-{page.look}.png", full_page=True)
        assert axe.Axe().run(page).response["violations"] == []
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0


def test_the_bot_is_held_and_let_go_and_the_page_keeps_itself_fresh(page, database: Database) -> None:
    page.goto("/")
    page.get_by_label("Why").fill("a look")
    page.get_by_role("button", name="Pause everything").click()
    assert page.get_by_text("paused", exact=True).is_visible()
    with database.transaction() as session:
        assert all(session.scalars(select(Loop.paused)))
        for row in session.scalars(select(Loop)):
            row.paused = False
    page.get_by_role("button", name="Pause everything").wait_for(timeout=15_000)  # nobody has touched the page
    assert page.complaints == []
