"""The whole bot in one process and in virtual time: embedded PostgreSQL, a sandbox in a thread, and the loops by turns.

No Celery and no Redis, but the very stages that the tasks run, each turn claimed in Postgres as there. Nothing waits:
while a turn runs the world stands still, and between two turns it jumps to the next moment at which one is due.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog
from pydantic import SecretStr
from sqlalchemy import func, select

from app import clock, loops
from app.config import Secrets, VibeBotConfig
from app.context import BotContext
from app.learning.control import Relabel
from app.learning.trainer import run_ppo
from app.learning.turn import RunOutcome
from app.loading import ConfigError
from app.local.observer import Observer
from app.local.servers import EmbeddedPostgres
from app.policy.author import Author
from app.posting import due_posts, send_post
from app.readiness import is_worth_a_run
from app.sandbox.communityfile import CommunityFileError
from app.sandbox.serving import served_here
from app.sandbox.settings import MECHANISMS, Keys, Mechanism, Settings
from app.schedule import LoopName
from app.stages import STAGES, WAKES
from dbs import migrations
from dbs.models import Loop, Post
from dbs.session import Database
from dbs.states import PostState

# The mechanisms are here for who asks for a loop: nothing else outside the sandbox imports it.
__all__ = [
    "MECHANISMS",
    "START",
    "Mechanism",
    "NothingDue",
    "VirtualLoop",
    "virtual_loop",
    "virtual_world",
    "virtual_x",
]

log = structlog.get_logger()

# A Monday morning, the same for every run, so that a seed means the same community at the same hours.
START = datetime(2026, 1, 5, 6, 0, tzinfo=UTC)
# What is due at the same moment takes its turns in this order: reading, writing, publishing, measuring, learning.
PIPELINE = list(LoopName)
# These look every minute or two whether there is something to do; here the rows that they look for say when.
BY_ROWS = {LoopName.PUBLISHING: PostState.QUEUED, LoopName.RECONCILIATION: PostState.UNCONFIRMED}


class NothingDue(RuntimeError):
    """Every loop is paused and no post waits: the world would stand still for ever."""


@dataclass(frozen=True)
class VirtualX:
    """An X of our own in this process, and the keys that it takes."""

    base_url: str
    keys: Keys

    def secrets(self, database_url: str) -> Secrets:
        return Secrets(
            x_api_key=SecretStr(self.keys.api_key),
            x_api_secret=SecretStr(self.keys.api_secret),
            x_access_token=SecretStr(self.keys.access_token),
            x_access_token_secret=SecretStr(self.keys.access_token_secret),
            x_client_id=None,  # whatever the environment has: those of X open nothing here
            x_client_secret=None,
            x_base_url=self.base_url,
            database_url=SecretStr(database_url),
        )


@contextmanager
def virtual_x(directory: Path, community: str, mechanism: Mechanism, seed: int) -> Iterator[VirtualX]:
    """A sandbox in a thread, which lives by this process's clock."""
    settings = Settings(state=directory / "sandbox", community=community, mechanism=mechanism, seed=seed, keys=Keys())
    with ExitStack() as served:
        try:
            base_url = served.enter_context(served_here(settings))
        except CommunityFileError as error:
            raise ConfigError(f"community: got {community!r}; {error}") from error
        yield VirtualX(base_url, settings.keys)


@dataclass(frozen=True)
class VirtualWorld:
    """A sandbox and a database, by the clock of this process."""

    moment: clock.VirtualTime
    x: VirtualX
    database_url: str
    db: Database


@contextmanager
def virtual_world(
    directory: Path, *, community: str, mechanism: Mechanism, seed: int, at: datetime
) -> Iterator[VirtualWorld]:
    """The world of a directory, new or as it was left, at a moment of its own time."""
    postgres = EmbeddedPostgres(directory / "postgres")
    database_url = postgres.start(durable=False)
    try:
        migrations.upgrade(database_url)
        with clock.virtual(at) as moment, virtual_x(directory, community, mechanism, seed) as x:
            db = Database(database_url)
            try:
                yield VirtualWorld(moment, x, database_url, db)
            finally:
                db.close()
    finally:
        postgres.stop()


class VirtualLoop:
    """Takes the turns of one bot in the order in which they fall due.

    Attributes:
        relabel: gives a run's samples other rewards than those that they earned.
        seconds: by what they were spent on, wall time and, on a busy machine the better measure, processor time of
            this process.
        learnt: outcomes of the training runs that were made, the first first.
    """

    def __init__(self, bot: BotContext, moment: clock.VirtualTime, observer: Observer) -> None:
        self.bot, self.moment, self.observer = bot, moment, observer
        self.relabel: Relabel | None = None
        self.seconds: dict[str, tuple[float, float]] = {}
        self.learnt: list[RunOutcome] = []
        self._woken: dict[LoopName, None] = {}  # in the order in which they were

    def step(self) -> LoopName:
        """Jump to the next moment at which something is due, and do it.

        A loop that was woken waits for what else is due at that moment, as a message waits while the worker is busy: so
        who was read in the timeline and who called are answered in one batch.

        Raises:
            NothingDue: nothing ever will be.
        """
        due_at, loop, by_hand = self._next()
        self.moment.jump(due_at)
        self._turn(loop, by_hand=by_hand)
        return loop

    def pause(self, reason: str, only: list[LoopName]) -> None:
        for loop in only:
            self._woken.pop(loop, None)
        with self.bot.db.transaction() as session:
            loops.pause(session, self.bot.config.bot_id, reason, only)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Add the time of a block to `seconds`."""
        wall, processor = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            before = self.seconds.get(what, (0.0, 0.0))
            self.seconds[what] = (
                before[0] + time.perf_counter() - wall,
                before[1] + time.process_time() - processor,
            )

    def _next(self) -> tuple[datetime, LoopName, bool]:
        """When, which loop, and whether without being due by its own time."""
        first = min(self._due(), key=lambda turn: (turn[0], PIPELINE.index(turn[1])), default=None)
        if self._woken and (first is None or first[0] > clock.now()):
            return clock.now(), next(iter(self._woken)), True
        if first is None:
            raise NothingDue("every loop is paused and no post waits to be sent")
        return *first, first[1] in BY_ROWS

    def _due(self) -> list[tuple[datetime, LoopName]]:
        bot_id = self.bot.config.bot_id
        with self.bot.db.transaction() as session:
            rows = session.execute(
                select(Loop.next_due_at, Loop.loop).where(
                    Loop.bot_id == bot_id, Loop.paused.is_(False), Loop.loop.not_in(list(BY_ROWS))
                )
            ).all()
            due = [(due_at, LoopName(name)) for due_at, name in rows]
            for loop, state in BY_ROWS.items():
                first = select(func.min(Post.due_at)).where(Post.bot_id == bot_id, Post.state == state)
                at = session.scalars(first).one()
                due += [(at, loop)] if at is not None else []
        return due

    def _turn(self, loop: LoopName, *, by_hand: bool) -> None:
        """Take a turn, and wake the loop that waits for what it did."""
        bot = self.bot
        self._woken.pop(loop, None)
        with self.timed(loop.value), structlog.contextvars.bound_contextvars(loop=loop.value):
            done = loops.run_turn(bot.db, bot.config, loop, self._work(loop), by_hand=by_hand)
            if loop is LoopName.PUBLISHING:
                self._send()
        if done and loop in WAKES:
            self._woken[WAKES[loop]] = None

    def _work(self, loop: LoopName) -> Callable[[], int]:
        return self._learn if loop is LoopName.PPO else lambda: STAGES[loop](self.bot)

    def _send(self) -> None:
        while post_ids := due_posts(self.bot.db, self.bot.config):
            for post_id in post_ids:
                send_post(self.bot.db, self.bot.x, self.bot.config, post_id)

    def _learn(self) -> int:
        with self.bot.db.transaction() as session:
            if not is_worth_a_run(session, self.bot.config):
                return 0
        outcome = run_ppo(self.bot.config, self.bot.db, relabel=self.relabel)
        if outcome.state == "skipped":
            return 0
        self.learnt.append(outcome)
        return 1


@contextmanager
def virtual_loop(
    directory: Path,
    make_config: Callable[[Observer], VibeBotConfig],
    *,
    community: str,
    mechanism: Mechanism = "taste",
    seed: int,
) -> Iterator[VirtualLoop]:
    """A bot that was just born, in a world that was just born, at `START`.

    Args:
        make_config: told the sandbox's members, says how the bot is to be.
        community: name of a shipped community, or a file.
        mechanism: how a text comes to its reactions there.
        seed: of the community, and of everything that the author leaves to chance.

    Raises:
        ConfigError: the community or the config cannot be used.
    """
    with virtual_world(directory, community=community, mechanism=mechanism, seed=seed, at=START) as world:
        observer = Observer(world.x.base_url)
        bot = BotContext(make_config(observer), secrets=world.x.secrets(world.database_url), db=world.db)
        bot.enrol()
        bot.author = Author(bot.config, world.db, chooser=random.Random(seed))
        yield VirtualLoop(bot, world.moment, observer)
