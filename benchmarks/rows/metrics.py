"""What it takes to follow 1,000 posts for seven days each: at seven ages, or word for word every fifteen minutes.

Both sides live through the same virtual fortnight of the same sandbox, in the first week of which the posts are made.
Word for word means four requests a post at every one of 672 ticks. X's windows would let nobody make them (75 look-ups
of likers a tick, for the whole account), so the baseline makes the first round of each day of a post's life, and the
other 95 are taken to cost what that one did, though counts only grow.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.row import Figure, Measured, Probe, Row, Settings, Side
from benchmarks.workload import POSTS

USER = "1000001"
TICK, DAY, FOLLOWED_FOR = timedelta(minutes=15), timedelta(days=1), timedelta(days=7)
TICKS_A_DAY = DAY // TICK


@dataclass
class Life:
    """A bot without a model in a virtual world, and its posts so far: X id and moment."""

    db: Any
    x: Any
    config: Any
    base_url: str
    posts: list[tuple[str, datetime]] = field(default_factory=list)

    def spent(self) -> Measured:
        """Requests, what they cost by the price list, and what where a thing read twice in a day is paid once."""
        import requests
        from sqlalchemy import func, select

        from app.x.endpoints import Endpoint
        from dbs.models import LedgerEntry

        with self.db.transaction() as session:
            of_reads = select(func.count(), func.sum(LedgerEntry.cost_usd)).where(
                LedgerEntry.endpoint != Endpoint.CREATE_POST
            )
            count, dollars = session.execute(of_reads).one()
        rows = requests.get(f"{self.base_url}/_sandbox/ledger", timeout=60).json()["rows"]
        once = sum(row["usd"] for row in rows if row["item"].endswith("read"))
        return {"requests": float(count), "dollars": float(dollars or 0), "dollars_once_a_day": float(once)}

    def post(self, number: int, now: datetime) -> None:
        """Publish one more; its row in the database is there and becomes one that is to be measured."""
        from sqlalchemy import update

        from app.measuring import AGES
        from dbs.models import Post

        text = f"{POSTS[number % len(POSTS)]}{POSTS[(3 * number + 1) % len(POSTS)]}"[:200]
        x_post_id = self.x.post_tweet(f"{text} No. {number}.").x_post_id
        facts = {"x_post_id": x_post_id, "post_time": now, "measure_step": 0, "next_measure_at": now + AGES[0]}
        with self.db.transaction() as session:
            session.execute(update(Post).where(Post.post_id == uuid.UUID(int=number)).values(facts))
        self.posts.append((x_post_id, now))


def at_ages(settings: Settings, probe: Probe) -> Measured:
    """A turn of the bot's measuring at every tick."""
    probe.imported()

    def turn(life: Life, _now: datetime) -> None:
        from app.loops import PutOff
        from app.measuring import measure_due

        try:
            measure_due(life.db, life.x, life.config)
        except PutOff:
            return  # the window is over at the next tick

    return _live(settings, turn)


def every_tick(settings: Settings, probe: Probe) -> Measured:
    """The post, its reposters, its quotes and its likers: the first round of each day of each post."""
    probe.imported()

    def turn(life: Life, now: datetime) -> None:
        for x_post_id, at in life.posts:
            if now - at < FOLLOWED_FOR and (now - at) % DAY < TICK:
                life.x.get_posts([x_post_id])
                life.x.get_reposters(x_post_id)
                life.x.get_quotes(x_post_id)
                life.x.get_likers(x_post_id)

    spent = _live(settings, turn)
    return spent | {name: spent[name] * TICKS_A_DAY for name in ("requests", "dollars")}


def _live(settings: Settings, turn: Callable[[Life, datetime], None]) -> Measured:
    """A fortnight: in its first week the posts are made, evenly; what reading them took."""
    from app import clock
    from app.config import BudgetConfig, PersonaConfig, VibeBotConfig
    from app.local.servers import EmbeddedPostgres
    from app.local.virtual import START, virtual_x
    from app.x_interactor import XInteractor
    from benchmarks.history import fill
    from dbs.migrations import upgrade
    from dbs.session import Database

    count, days = int(settings["posts"]), timedelta(days=int(settings["days"]))
    with tempfile.TemporaryDirectory() as scratch:
        server = EmbeddedPostgres(Path(scratch) / "postgres")
        url = server.start(durable=False)
        try:
            upgrade(url)
            db = Database(url)
            with clock.virtual(START) as moment, virtual_x(Path(scratch), "default", "taste", 1) as place:
                who = PersonaConfig(name="E", description="d", tone="t", interests=["i"])
                budget = BudgetConfig(max_usd_per_day=1e6, max_usd_per_month=1e6)
                config = VibeBotConfig(
                    user_id=USER, accounts_to_follow=["a"], persona=who, budget=budget, live=True, data_dir=scratch
                )
                fill(db, count)
                x = XInteractor(USER, live=True, secrets=place.secrets(url), db=db, budget=budget)
                life = Life(db, x, config, place.base_url)
                before = life.spent()
                # An hour over, because the last age is read at the first turn after it.
                for tick in range((days + FOLLOWED_FOR + timedelta(hours=1)) // TICK):
                    now = START + tick * TICK
                    moment.jump(now)
                    while len(life.posts) < min(count, count * (now - START) / days):
                        life.post(len(life.posts), now)
                    turn(life, now)
                after = life.spent()
            db.close()
        finally:
            server.stop()
    return {name: after[name] - before[name] for name in before}


ROW = Row(
    name="metrics",
    what="Requests to X and US dollars for the metrics of 1,000 posts, each followed for seven days.",
    ours=Side(
        label="seven ages, 100 posts to a request",
        measure=at_ages,
        settings=("`app.measuring.measure_due` every fifteen minutes; what is said under a post is read, too.",),
    ),
    baseline=Side(
        label="four endpoints per post at every tick",
        measure=every_tick,
        settings=(
            "Post, reposters, quotes and likers. Measured once a day of a post's life, times 96; "
            "only what is paid once a day is not multiplied.",
        ),
    ),
    figures=(
        Figure("requests", "requests", "requests", "ours / baseline", "at most", 1 / 200),
        Figure("US dollars", "dollars", "US$", "ours / baseline", "at most", 1 / 50),
        Figure("US dollars, a thing paid once a day", "dollars_once_a_day", "US$", "ours / baseline", "at most", None),
    ),
    settings={"posts": 1000, "days": 7},
    quick={"posts": 20, "days": 1},
    packages=("tweepy", "sqlalchemy"),
    repetitions=1,
)
