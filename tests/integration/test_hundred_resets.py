"""A hundred posts whose answers never came: the connection to the sandbox is reset after each took effect."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from factories import BOT, give_checkpoint, give_draft, give_persona
from sqlalchemy import select

from app import clock
from app.config import VibeBotConfig
from app.local.observer import Observer
from app.local.virtual import START, virtual_x
from app.posting import due_posts, queue_drafts, send_post
from app.reading import store_posts
from app.reconciliation import reconcile
from app.text import fits
from app.x.types import Tweet
from app.x_interactor import XInteractor
from dbs.models import Bot, Checkpoint, Post
from dbs.session import Database
from dbs.states import Kind, PostState, Source

LOST, ANSWERED = 100, 30
CREATE = {"method": "POST", "path": "^/2/tweets$"}
DIFFICULT = (
    "Tea & comets: 3 < 4 > 2, said \"nobody\" & 'somebody'",
    "Written out it is &amp;, and once more &amp;amp;",
    "R&para, &notin and &copy without their semicolons",
    "The map is at https://example.com/maps?lat=1&lon=2#here, have a look",
    "Without a scheme: example.com/tonight (or sub.example.org).",
    "http://localhost:8000/nowhere is a link to nobody",
    "A family 👩‍👩‍👧‍👦, a flag 🇩🇪, a thumb 👍🏽 and a heart ❤️",
    unicodedata.normalize("NFD", "Café à Zürich, décomposé: ñ ö ế"),
    unicodedata.normalize("NFC", "Café à Genève, composé: ñ ö ế"),
    "①②③ ﬁne ｆｕｌｌ　ｗｉｄｔｈ ℌ",
    "彗星は今夜三時四十分に東の低い空に見えます。",
    "  white\tspace\nin  every \u00a0 form  ",
    "ẞ and ß, İ and ı, Σίσυφος",
    "@explorer_bot begins with its own handle",
    "$TSLA #comet @nobody_is_called_so",
)


@dataclass
class World:
    """A bot in virtual time beside a sandbox, and posts of members to answer."""

    db: Database
    x: XInteractor
    config: VibeBotConfig
    checkpoint: Checkpoint
    moment: clock.VirtualTime
    observer: Observer
    targets: list[Tweet]

    def say(self, text: str, kind: Kind = Kind.POST) -> PostState | None:
        """A draft on its way through the outbox, two minutes later; None if it was refused a place there."""
        self.moment.jump(clock.now() + timedelta(minutes=2))
        target = self.targets.pop() if kind is not Kind.POST else None
        place = {"target_post_id": target.x_post_id, "target_author_id": target.author_id} if target else {}
        with self.db.transaction() as session:
            give_draft(session, self.checkpoint, text, kind=kind, **place)
        if queue_drafts(self.db, self.config) == 0:
            return None
        (post_id,) = due_posts(self.db, self.config)
        return send_post(self.db, self.x, self.config, post_id)

    def look(self, minutes: float) -> int:
        self.moment.jump(clock.now() + timedelta(minutes=minutes))
        return reconcile(self.db, self.x, self.config)

    def posts(self) -> list[Post]:
        with self.db.transaction() as session:
            return list(session.scalars(select(Post)))


@pytest.fixture
def world(tmp_path: Path, database: Database, database_url: str, config: VibeBotConfig) -> Iterator[World]:
    config = config.model_copy(
        update={
            "budget": config.budget.model_copy(update={"tier": "enterprise", "max_usd_per_day": 100.0}),
            "safety": config.safety.model_copy(
                update={"max_posts_per_hour": 300, "max_posts_per_day": 2400, "author_cooldown": 1}
            ),
            "loop": config.loop.model_copy(update={"max_target_age": 10_000}),
        }
    )
    with clock.virtual(START) as moment, virtual_x(tmp_path, "default", "taste", seed=1) as sandbox:
        with database.transaction() as session:
            session.add(Bot(bot_id=BOT, user_id=config.user_id, handle="explorer_bot", created_at=clock.now()))
            give_persona(session)
            checkpoint = give_checkpoint(session)
        x = XInteractor(
            config.user_id, live=True, secrets=sandbox.secrets(database_url), db=database, budget=config.budget
        )
        observer = Observer(sandbox.base_url)
        yield World(database, x, config, checkpoint, moment, observer, _targets(x, database, config, observer))
        x.close()


def _targets(x: XInteractor, db: Database, config: VibeBotConfig, observer: Observer) -> list[Tweet]:
    """The newest post of each member, stored as reading stores it."""
    pages = (next(iter(x.get_user_posts(member["id"], 5))) for member in observer.get("members"))
    found = [tweet for page in pages for tweet in page.tweets]
    with db.transaction() as session:
        store_posts(session, config, found, Source.TIMELINE)
    return found


def test_a_hundred_posts_that_took_effect_unseen_are_a_hundred_posts(world: World) -> None:
    assert all(fits(text) for text in DIFFICULT)
    observer, difficult = world.observer, iter(DIFFICULT)
    observer.post("script", [{"fault": "reset_after", "count": LOST, **CREATE}])
    for number in range(LOST):
        # Near-identical texts, as own posts, as answers and as quotes, with the difficult ones among them.
        kind = (Kind.POST, Kind.REPLY, Kind.REPLY, Kind.QUOTE)[number % 4]
        text = next(difficult, None) if number % 3 == 0 else None
        assert world.say(text or f"The comet is back, day {number}", kind) is PostState.UNCONFIRMED
    assert observer.get("script") == []
    # What X answers goes on meanwhile, so that one page of our own timeline does not show all that is looked for.
    for number in range(ANSWERED):
        assert world.say(f"The comet is gone, day {number}") is PostState.POSTED
    # The same text once more, to somebody else, is not said at all: to X it would be a duplicate.
    assert world.say("The comet is back, day 1", Kind.REPLY) is None

    assert len(observer.writes()) == LOST + ANSWERED
    found = [world.look(minutes=3) for _ in range(4)]
    assert (sum(found), found[-1]) == (LOST, 0)

    rows, writes = world.posts(), observer.writes()
    assert [write.status for write in writes] == [201] * (LOST + ANSWERED)
    assert {(row.state, row.attempts) for row in rows} == {(PostState.POSTED, 1)}
    assert sorted((row.x_post_id, row.kind, row.target_post_id, row.content) for row in rows) == sorted(
        [(write.x_post_id, write.kind, write.target, write.text) for write in writes], key=lambda made: made[0] or ""
    )


def test_a_timeline_that_lags_has_nothing_sent_again(world: World) -> None:
    world.observer.post("script", [{"fault": "reset_after", "count": 3, **CREATE}])
    world.observer.post("faults", [{"fault": "lagging_timeline", "seconds": 240}])
    for number in range(3):
        assert world.say(f"The comet is back, day {number}") is PostState.UNCONFIRMED
    assert world.look(minutes=3) == 2
    (late,) = [row for row in world.posts() if row.state == PostState.UNCONFIRMED]
    assert late.absent_reads == 1
    assert world.look(minutes=3) == 1
    assert len(world.observer.writes()) == 3
    assert {row.state for row in world.posts()} == {PostState.POSTED}


def test_what_x_shows_no_more_is_not_called_absent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.reconciliation.DEPTH", 20)
    world.observer.post("script", [{"fault": "reset_after", **CREATE}])
    assert world.say("The comet is back") is PostState.UNCONFIRMED
    for number in range(20):
        world.say(f"The comet is gone, day {number}")
    for _ in range(3):
        assert world.look(minutes=3) == 0
    (lost,) = [row for row in world.posts() if row.state == PostState.UNCONFIRMED]
    assert (lost.attempts, lost.absent_reads) == (1, 0)
    assert "a person should look" in str(lost.state_reason)
    assert len(world.observer.writes()) == 21
