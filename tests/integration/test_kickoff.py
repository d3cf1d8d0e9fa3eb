"""The kick-off on an X that says what was planted: step by step, interrupted in each, and with nothing to train on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from factories import give_checkpoint
from scripted_x import Reply, Request, ScriptedX, user
from sqlalchemy import select
from timelines import Timelines
from tiny_model import save_tiny_model

from app import kickoff
from app.config import Secrets, VibeBotConfig
from app.context import BotContext
from app.data import gathering
from app.data.fanout import hand_out, read_page
from app.data.gathering import ConsentMissingError
from app.kickoff import Hands, Step, kick_off
from app.learning import sfttrainer
from app.schedule import LoopName
from dbs.models import Checkpoint, Event, Loop
from dbs.session import Database
from dbs.states import CheckpointKind, StepState

HANDS = Hands(agree=lambda _: True, say=lambda _: None)


class Interrupted(BaseException):
    """Ctrl-C, a kill, the end of the machine: whatever ends a step in its middle."""


@pytest.fixture
def planted() -> Iterator[Timelines]:
    x = ScriptedX()
    said = {
        author: [{"text": f"The council of {author} counted {i} trams and {i * 7} bridges today."} for i in range(30)]
        for author in ("7", "8", "9", "10", "11")
    }
    timelines = Timelines(x, said)
    posts = timelines.answer

    def answer(request: Request) -> Reply:
        if request.path == "/2/users/me":
            return Reply(body={"data": user("1000001", "explorer_bot")})
        if request.path == "/2/users/by":
            return Reply(body={"data": [user(name[1:], name) for name in request.query["usernames"].split(",")]})
        if request.method == "POST" and request.path.endswith("/following"):
            return Reply(body={"data": {"following": True, "pending_follow": False}})
        return posts(request)

    x.otherwise = answer
    yield timelines
    x.close()


@pytest.fixture
def bot(planted: Timelines, config: VibeBotConfig, database: Database, database_url: str, tmp_path: Path) -> BotContext:
    base = save_tiny_model(tmp_path / "tiny")
    model = config.model.model_copy(
        update={"hf_repo_id": str(base), "checkpoint_dir": str(tmp_path / "checkpoints"), "dtype": "float32"}
    )
    sft = config.sft.model_copy(
        update={"max_length": 1024, "batch_size": 2, "held_out_share": 0.2, "max_cost": 1000.0, "max_memory_gb": 64.0}
    )
    mine = config.model_copy(
        update={
            "accounts_to_follow": ["m7", "m8", "m9", "m10", "m11"],
            "model": model.model_copy(update={"device": "cpu"}),
            "sft": sft,
            "budget": config.budget.model_copy(update={"tier": "enterprise"}),
        }
    )
    secrets = planted.secrets.model_copy(update={"database_url": Secrets(database_url=database_url).database_url})
    return BotContext(mine, secrets=secrets, db=database)


def states(bot: BotContext) -> dict[str, str]:
    return {step.value: row.state for step, row in kickoff._rows(bot).items()}


def paused(bot: BotContext) -> set[str]:
    with bot.db.transaction() as session:
        return set(session.scalars(select(Loop.loop).where(Loop.paused)))


def broken(*_: Any, **__: Any) -> None:
    raise Interrupted


def test_interrupted_in_every_step_and_run_again(
    bot: BotContext, planted: Timelines, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name, step in (
        (kickoff, "load_community", Step.COMMUNITY),
        (gathering, "_wait_or_put_off", Step.DATA_SET),
        (sfttrainer, "perplexity", Step.SFT),
        (kickoff, "_loops", Step.LOOPS),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, broken)
            if step is Step.DATA_SET:  # in its middle: two members are read, the third is not answered
                answer, count = planted.x.otherwise, len(planted.pages)
                patch.setattr(
                    planted.x,
                    "otherwise",
                    lambda request, answer=answer, count=count: (
                        answer(request) if len(planted.pages) < count + 2 else Reply(503, {"title": "away"})
                    ),
                )
            with pytest.raises(Interrupted):
                kick_off(bot, HANDS)
        assert states(bot)[step.value] == StepState.FAILED
        assert paused(bot) == {LoopName.GENERATION, LoopName.OWN_POSTS}, "all loops but writing run meanwhile"
    rows = kick_off(bot, HANDS)
    assert {row.state for row in rows.values()} == {StepState.DONE}
    assert paused(bot) == set()
    read = [author for author, _ in planted.pages]
    assert sorted(read) == sorted({"7", "8", "9", "10", "11"}), "no page was read twice"
    follows = [request for request in planted.x.requests if request.path.endswith("/following")]
    assert len(follows) == 5
    with bot.db.transaction() as session:
        reference = session.scalars(select(Checkpoint).where(Checkpoint.is_reference)).one()
        assert (reference.kind, reference.is_current) == ("sft", True)
    before = len(planted.x.requests)
    kick_off(bot, HANDS)
    assert len(planted.x.requests) == before, "what is done is not done again"


def test_on_a_running_stack_the_workers_gather(
    bot: BotContext, planted: Timelines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kickoff, "gather", broken)
    monkeypatch.setattr(kickoff, "train", lambda *_, **__: None)  # of that are the other tests

    def work() -> None:
        waiting = hand_out(bot)
        while waiting:
            read_page(bot, waiting.pop(0))
            waiting += hand_out(bot)

    threads: list[threading.Thread] = []

    def send_pages() -> None:
        threads.append(threading.Thread(target=work))
        threads[-1].start()

    seen: list[int] = []
    rows = kick_off(
        bot,
        Hands(
            agree=lambda _: True,
            say=lambda _: None,
            send_pages=send_pages,
            gathering=lambda progress: seen.append(progress.posts),
        ),
    )
    threads[0].join()
    assert rows[Step.DATA_SET].state == StepState.DONE
    assert str(rows[Step.DATA_SET].detail).startswith("150 posts")
    assert seen[-1] == 150
    assert sorted(author for author, _ in planted.pages) == sorted({"7", "8", "9", "10", "11"})


def test_without_an_opt_in_it_goes_on_with_the_base_model(bot: BotContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.data.optin.is_live_x", lambda _: True)
    said: list[str] = []
    rows = kick_off(bot, Hands(agree=lambda _: True, say=said.append))
    assert rows[Step.DATA_SET].state == rows[Step.SFT].state == StepState.SKIPPED
    assert rows[Step.LOOPS].state == StepState.DONE
    assert any("guidelines prohibit" in line for line in said)
    assert paused(bot) == set()
    with bot.db.transaction() as session:
        assert session.scalars(select(Event).where(Event.kind == "kickoff.no_opt_in")).one().detail["reason"]
    monkeypatch.undo()
    again = kick_off(bot, HANDS)
    assert again[Step.SFT].state == StepState.DONE, [row.detail for row in again.values()]  # what was skipped


def test_nobody_agreed(bot: BotContext, planted: Timelines) -> None:
    with pytest.raises(ConsentMissingError):
        kick_off(bot, Hands(agree=lambda _: False, say=lambda _: None))
    assert planted.pages == []
    assert states(bot) == {"databases": "done", "community": "done", "data_set": "failed"}


def test_a_loop_that_a_person_paused_stays_paused(bot: BotContext) -> None:
    from app import loops

    bot.enrol()
    with bot.db.transaction() as session:
        loops.pause(session, "explorer", "by hand", [LoopName.OWN_POSTS])
    kick_off(bot, HANDS)
    assert paused(bot) == {LoopName.OWN_POSTS}


def test_a_bot_that_has_learnt_pays_for_no_data_set_and_is_not_held(bot: BotContext, planted: Timelines) -> None:
    bot.enrol()
    with bot.db.transaction() as session:
        base = give_checkpoint(session, is_current=False)
        give_checkpoint(session, kind=CheckpointKind.PPO, is_reference=False, parent_id=base.checkpoint_id)
    asked: list[None] = []
    rows = kick_off(bot, Hands(agree=lambda _: True, say=lambda _: None, send=lambda: asked.append(None)))
    assert rows[Step.DATA_SET].state == rows[Step.SFT].state == StepState.SKIPPED
    assert rows[Step.LOOPS].state == StepState.DONE
    assert (planted.pages, asked, paused(bot)) == ([], [], set())
