"""The kick-off: config, databases, community, data set, SFT, loops. Each step is recorded, and done once.

What was interrupted in a step begins with that step again, and every step goes on where it was. The loops do not wait
for it: reading, publishing and measuring begin as soon as there are members. Only writing waits, so that the first word
is in the community's voice; it waits for no longer than the jump start is possible.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import structlog
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from app import clock, events, loops
from app.community import is_loaded, load_community
from app.context import BotContext
from app.data.estimate import Estimate
from app.data.fanout import gather_by_workers
from app.data.gathering import Gathered, Progress, gather
from app.data.jump_start import TrainingProgress, train
from app.data.manifest import find
from app.data.optin import OptInMissingError, require_opt_in
from app.loops import PutOff
from app.policy import registry
from app.schedule import LoopName
from dbs import migrations
from dbs.models import Checkpoint, KickoffStep, Loop, TrainingRun
from dbs.states import CheckpointKind, DataSetState, RunKind, RunState, StepState

log = structlog.get_logger()

WRITING = [LoopName.GENERATION, LoopName.OWN_POSTS]
WAITING = "kick-off: writing waits for the jump start"
LEARNT = "the bot writes with another checkpoint already, and a jump start begins from the base model"
ASK_AGAIN_SECONDS = 120.0  # after which a message that the broker may have lost is sent again
LOOK_SECONDS = 1.0


class Step(StrEnum):
    DATABASES = "databases"
    COMMUNITY = "community"
    DATA_SET = "data_set"
    SFT = "sft"
    LOOPS = "loops"


class StepFailed(RuntimeError):
    """A step of the kick-off could not be done. What was done before it stays done."""


@dataclass(frozen=True)
class Hands:
    """What the kick-off needs of whoever calls it.

    Attributes:
        agree: asked with what the data set will cost.
        say: told, in words, what happens.
        send: puts the task of the training lane into its queue; None to train in this process.
        send_pages: puts the task that hands out pages of the data set into its queue; None to gather in this process.
        gathering, training: told how far these are.
    """

    agree: Callable[[Estimate], bool]
    say: Callable[[str], None]
    send: Callable[[], None] | None = None
    send_pages: Callable[[], None] | None = None
    gathering: Callable[[Progress], None] | None = None
    training: TrainingProgress | None = None


def kick_off(bot: BotContext, hands: Hands) -> dict[Step, KickoffStep]:
    """Do what is left of the kick-off.

    Returns:
        How each step stands.

    Raises:
        ConfigError: the config cannot be used as it is; its message says what to do.
        PutOff: X or the budget gives no more for now; call it again then.
        StepFailed: the training failed.
    """
    # First of all, because every other step is recorded in them.
    migrations.upgrade(bot.secrets.database_url.get_secret_value())
    bot.enrol()
    if not _is_done(_rows(bot).get(Step.LOOPS)):
        _hold_writing(bot)
    steps: dict[Step, Callable[[], tuple[StepState, str]]] = {
        Step.DATABASES: lambda: (StepState.DONE, "the schema is that of this version"),
        Step.COMMUNITY: lambda: _community(bot),
        Step.DATA_SET: lambda: _data_set(bot, hands),
        Step.SFT: lambda: _sft(bot, hands),
        Step.LOOPS: lambda: _loops(bot),
    }
    for step, work in steps.items():
        _take(bot, step, work, hands.say)
    return _rows(bot)


def _take(bot: BotContext, step: Step, work: Callable[[], tuple[StepState, str]], say: Callable[[str], None]) -> None:
    """Do one step unless it is done, and record how it went. One that was skipped is tried again."""
    known = _rows(bot).get(step)
    if known is not None and _is_done(known):
        say(f"{step}: done before ({known.detail})")
        return
    say(f"{step}: begins")
    _record(bot, step, StepState.RUNNING, None, began=True)
    try:
        state, detail = work()
    except PutOff as put_off:
        _record(bot, step, StepState.RUNNING, f"waits: {put_off}")
        raise
    except BaseException as error:
        _record(bot, step, StepState.FAILED, f"{type(error).__name__}: {error}")
        raise
    _record(bot, step, state, detail)
    say(f"{step}: {state}: {detail}")


def _community(bot: BotContext) -> tuple[StepState, str]:
    followed = load_community(bot.db, bot.x, bot.config)
    with bot.db.transaction() as session:
        if not is_loaded(session, bot.config):
            raise StepFailed("some handles are not looked up yet; call it again")
    return StepState.DONE, f"{len(bot.config.accounts_to_follow)} handles looked up, {followed} followed now"


def _data_set(bot: BotContext, hands: Hands) -> tuple[StepState, str]:
    if _has_learnt(bot):
        return StepState.SKIPPED, LEARNT
    try:
        found = _gather(bot, hands)
    except OptInMissingError as error:
        hands.say(str(error))
        with bot.db.transaction() as session:
            events.record(session, bot.config.bot_id, "kickoff.no_opt_in", reason=str(error))
        return StepState.SKIPPED, str(error)
    return StepState.DONE, f"{found.posts} posts, some {found.tokens} tokens; {found.reason}"


def _gather(bot: BotContext, hands: Hands) -> Gathered:
    """By the I/O workers, if they are asked and share a directory with this process, so that all append to one file.

    A source on disk is nowhere but here, and read in no time.
    """
    if hands.send_pages is None or bot.config.sft.source != "x" or bot.config.shared_url is not None:
        return gather(bot, agree=hands.agree, report=hands.gathering)
    return gather_by_workers(bot, hands.send_pages, agree=hands.agree, report=hands.gathering, say=hands.say)


def _sft(bot: BotContext, hands: Hands) -> tuple[StepState, str]:
    try:
        require_opt_in(bot.config, bot.secrets)
    except OptInMissingError:
        return StepState.SKIPPED, "there is nothing it may train on: the bot goes on with the base model"
    with bot.db.transaction() as session:
        row = find(session, bot.config.bot_id)
    if row is None or row.state != DataSetState.COMPLETE or not row.posts:
        return StepState.SKIPPED, "the data set holds nothing: the bot goes on with the base model"
    if hands.send is None:
        train(bot, report=hands.training)
    else:
        _train_in_the_lane(bot, hands.send, hands)
    reference = _reference(bot)
    if reference is None:
        return StepState.SKIPPED, LEARNT
    return StepState.DONE, f"checkpoint {reference.checkpoint_id} is the reference"


def _train_in_the_lane(bot: BotContext, send: Callable[[], None], hands: Hands) -> None:
    """Ask for the training, and watch its row until it is over.

    Raises:
        StepFailed: the run failed.
    """
    began = clock.wall_now()
    asked = None
    while _reference(bot) is None and not _has_learnt(bot):
        with bot.db.transaction() as session:
            run = session.scalars(
                select(TrainingRun)
                .where(TrainingRun.bot_id == bot.config.bot_id, TrainingRun.kind == RunKind.SFT)
                .order_by(TrainingRun.started_at.desc())
                .limit(1)
            ).one_or_none()
        if run is not None and run.started_at >= began and run.state == RunState.FAILED:
            raise StepFailed(f"run {run.run_id} failed: {run.reason}; call it again, and it goes on where it was")
        running = run is not None and run.state == RunState.RUNNING
        if running and run is not None and run.progress and hands.training:
            hands.training(run.progress["step"], run.progress["steps"], run.progress["metrics"])
        if not running and (asked is None or time.monotonic() - asked > ASK_AGAIN_SECONDS):
            hands.say("sft: asked for; the training node takes it when it is free")
            send()
            asked = time.monotonic()
        time.sleep(LOOK_SECONDS)


def _loops(bot: BotContext) -> tuple[StepState, str]:
    """Let writing go on; a loop that a person has paused stays so."""
    with bot.db.transaction() as session:
        held = session.scalars(
            select(Loop.loop).where(Loop.bot_id == bot.config.bot_id, Loop.paused_reason == WAITING)
        ).all()
        if held:
            loops.resume(session, bot.config.bot_id, [LoopName(name) for name in held])
    return StepState.DONE, "every loop takes its turns"


def _hold_writing(bot: BotContext) -> None:
    with bot.db.transaction() as session:
        free = session.scalars(
            select(Loop.loop).where(
                Loop.bot_id == bot.config.bot_id,
                Loop.loop.in_([loop.value for loop in WRITING]),
                Loop.paused.is_(False),
            )
        ).all()
        if free:
            loops.pause(session, bot.config.bot_id, WAITING, [LoopName(name) for name in free])


def _reference(bot: BotContext) -> Checkpoint | None:
    with bot.db.transaction() as session:
        return session.scalars(
            select(Checkpoint).where(
                Checkpoint.bot_id == bot.config.bot_id,
                Checkpoint.is_reference,
                Checkpoint.kind == CheckpointKind.SFT,
            )
        ).one_or_none()


def _has_learnt(bot: BotContext) -> bool:
    """Whether the bot writes with something that a jump start, which begins from the base model, would not replace."""
    with bot.db.transaction() as session:
        current = registry.current(session, bot.config.bot_id)
        return current is not None and current.kind in {CheckpointKind.PPO, CheckpointKind.DPO}


def _rows(bot: BotContext) -> dict[Step, KickoffStep]:
    with bot.db.transaction() as session:
        rows = session.scalars(select(KickoffStep).where(KickoffStep.bot_id == bot.config.bot_id))
        return {Step(row.step): row for row in rows}


def _is_done(row: KickoffStep | None) -> bool:
    return row is not None and row.state == StepState.DONE


def _record(bot: BotContext, step: Step, state: StepState, detail: str | None, *, began: bool = False) -> None:
    now = clock.wall_now()
    values = {"state": state.value, "detail": detail, "finished_at": None if state is StepState.RUNNING else now}
    statement = insert(KickoffStep).values(
        bot_id=bot.config.bot_id, step=step.value, attempts=1, started_at=now, **values
    )
    changes = values | ({"started_at": now, "attempts": KickoffStep.attempts + 1} if began else {})
    with bot.db.transaction() as session:
        session.execute(statement.on_conflict_do_update(index_elements=["bot_id", "step"], set_=changes))
        if state is not StepState.RUNNING:
            events.record(session, bot.config.bot_id, f"kickoff.{state.value}", step.value, detail=detail)
