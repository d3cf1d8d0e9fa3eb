"""Gathering by the I/O workers: who gets which page, what is counted meanwhile, and what becomes of what is lost."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from scripted_x import Reply
from sqlalchemy import select, update
from test_gathering import everything, plain
from timelines import Plant

from app import clock, loops
from app.context import BotContext
from app.data import claims, fanout, manifest
from app.data.fanout import PAGES_AT_ONCE, gather_by_workers, hand_out, read_page
from app.data.gathering import ConsentMissingError, ask, gather, open_source
from app.loops import PutOff
from app.schedule import LoopName
from dbs.models import DataSet, DataSetAccount, Event, RateWindow
from dbs.states import DataSetState, SourceState


def posts(number: int, of: int = 1) -> list[dict[str, Any]]:
    return [plain(of * 1000 + i) for i in range(number)]


def give(context: BotContext, **sft: Any) -> None:
    """Change the config that the data set is gathered by."""
    context.config = context.config.model_copy(update={"sft": context.config.sft.model_copy(update=sft)})


def to_workers(context: BotContext) -> None:
    """A data set that the kick-off has handed to the workers."""
    open_source(context)
    ask(context, lambda _: True)
    with context.db.transaction() as session:
        session.get_one(DataSet, context.config.bot_id).by_workers = True


def row_of(context: BotContext) -> DataSet:
    with context.db.transaction() as session:
        return session.get_one(DataSet, context.config.bot_id)


def accounts(context: BotContext) -> dict[str, DataSetAccount]:
    with context.db.transaction() as session:
        return {row.account: row for row in manifest.accounts(session, context.config.bot_id)}


def whose(context: BotContext, claimed: Sequence[uuid.UUID]) -> list[str]:
    by_claim = {row.claim_id: row.account for row in accounts(context).values()}
    return [by_claim[claim_id] for claim_id in claimed]


def lapse(context: BotContext) -> None:
    """Five minutes of wall time have passed over every claim."""
    with context.db.transaction() as session:
        session.execute(update(DataSetAccount).values(claimed_until=DataSetAccount.claimed_until - claims.LEASE))


def work(context: BotContext) -> None:
    """What the workers do until nothing is handed out any more."""
    waiting = hand_out(context)
    while waiting:
        read_page(context, waiting.pop(0))
        waiting += hand_out(context)


def test_pages_are_of_different_accounts_and_fewest_turns_come_first(plant: Plant) -> None:
    context, x = plant({"7": posts(250, 1), "8": posts(150, 2), "9": posts(50, 3)})
    to_workers(context)
    claimed = hand_out(context)
    assert whose(context, claimed) == ["7", "8", "9"]
    assert hand_out(context) == [], "every account has its page under way"
    assert read_page(context, claimed[1])
    (again,) = hand_out(context)
    assert whose(context, [again]) == ["8"]
    for claim_id in (claimed[0], claimed[2], again):
        assert read_page(context, claim_id)
    assert [author for author, _ in x.pages] == ["8", "7", "9", "8"]
    work(context)
    row = row_of(context)
    assert (row.state, row.posts, row.by_workers) == (DataSetState.COMPLETE, 450, False)
    assert row.reason == "every account is read to its end"
    assert len({item["post_id"] for item in everything(context)}) == 450
    assert float(row.usd) == pytest.approx(450 * 0.005)


def test_no_more_than_so_many_at_once_and_nobody_far_behind(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.data.x_source.PAGE", 5)
    monkeypatch.setattr(fanout, "PAGES_AT_ONCE", 3)
    context, _ = plant({str(user): posts(60, user) for user in range(7, 12)})
    to_workers(context)
    first = hand_out(context)
    assert whose(context, first) == ["7", "8", "9"]
    lost = first.pop(0)  # whoever had this message is dead, and its claim does not lapse here
    waiting = first
    while waiting:
        read_page(context, waiting.pop(0))
        waiting += hand_out(context)
    assert {row.account: row.turns for row in accounts(context).values()} == {"7": 0, "8": 3, "9": 3, "10": 3, "11": 3}
    lapse(context)
    assert not read_page(context, lost), "a message that comes after its claim has lapsed is in no count"
    assert not read_page(context, uuid.uuid4())
    work(context)
    assert not read_page(context, lost), "a message that comes after its claim was another's"
    assert row_of(context).posts == 300
    assert {row.state for row in accounts(context).values()} == {SourceState.EXHAUSTED}


def test_a_message_that_is_delivered_twice_is_paid_for_once(plant: Plant) -> None:
    context, x = plant({"7": posts(30)})
    to_workers(context)
    (claim_id,) = hand_out(context)
    answer = x.answer
    inside: list[bool] = []

    def twice(request: Any) -> Reply:
        if not inside:
            inside.append(read_page(context, claim_id))  # the other worker comes while the first is reading
        return answer(request)

    x.x.otherwise = twice
    assert read_page(context, claim_id)
    assert inside == [False]
    assert not read_page(context, claim_id)
    assert len(x.pages) == 1


def test_whoever_comes_after_the_claim_has_lapsed_stores_nothing(plant: Plant) -> None:
    context, x = plant({"7": posts(130)})
    to_workers(context)
    (slow,) = hand_out(context)
    answer = x.answer

    def overtaken(request: Any) -> Reply:
        x.x.otherwise = answer
        lapse(context)
        (fast,) = hand_out(context)
        assert read_page(context, fast)
        return answer(request)

    x.x.otherwise = overtaken
    assert not read_page(context, slow)
    assert accounts(context)["7"].turns == 1
    work(context)
    assert sorted(item["post_id"] for item in everything(context)) == sorted(post["id"] for post in x.posts["7"])


def test_a_data_set_begun_anew_takes_no_page_of_the_old_one(plant: Plant) -> None:
    context, x = plant({"7": posts(20)})
    to_workers(context)
    (old,) = hand_out(context)
    answer = x.answer

    def anew(request: Any) -> Reply:
        x.x.otherwise = answer
        with context.db.transaction() as session:
            manifest.discard(session, context.config)
        to_workers(context)
        return answer(request)

    x.x.otherwise = anew
    assert not read_page(context, old)
    assert row_of(context).posts == 0
    work(context)
    assert row_of(context).posts == len(everything(context)) == 20


def test_money_counts_what_is_under_way(plant: Plant) -> None:
    context, _ = plant({"7": posts(250, 1), "8": posts(250, 2), "9": posts(250, 3)})
    give(context, max_cost=1.2, read_parents=False)  # two pages of fifty cents, and not a third
    to_workers(context)
    claimed = hand_out(context)
    assert whose(context, claimed) == ["7", "8"]
    assert read_page(context, claimed[0])
    assert hand_out(context) == [], "what is spent and what is under way leave no money for another"
    assert row_of(context).state == DataSetState.OPEN
    assert read_page(context, claimed[1])
    assert hand_out(context) == []
    row = row_of(context)
    assert (row.state, row.posts, float(row.usd)) == (DataSetState.COMPLETE, 200, 1.0)
    assert "sft.max_cost=$1.2" in str(row.reason)
    give(context, max_cost=100.0, read_parents=False)
    to_workers(context)
    with context.db.transaction() as session:
        session.get_one(DataSet, "explorer").state = DataSetState.OPEN
    work(context)
    assert row_of(context).posts == 750


def test_tokens_and_memory_end_it(plant: Plant) -> None:
    context, x = plant({"7": posts(250, 1), "8": posts(250, 2)})
    give(context, approximate_tokens=2_500)
    to_workers(context)
    work(context)
    assert "approximate_tokens" in str(row_of(context).reason)
    assert len(x.pages) == 2
    give(context, max_memory_gb=0.001, approximate_tokens=50_000)
    to_workers(context)
    with context.db.transaction() as session:
        session.get_one(DataSet, "explorer").state = DataSetState.OPEN
    work(context)
    assert "max_memory_gb" in str(row_of(context).reason)
    assert len(x.pages) == 2


def test_a_full_window_holds_every_worker_and_loses_nothing(plant: Plant) -> None:
    context, x = plant({"7": posts(250, 1), "8": posts(150, 2)})
    answer = x.answer
    x.x.otherwise = lambda request: answer(request) if len(x.pages) < 1 else Reply(429, {"title": "Too Many Requests"})
    to_workers(context)
    seven, eight = hand_out(context)
    assert read_page(context, seven)
    assert not read_page(context, eight)
    row = row_of(context)
    assert row.waits_until is not None
    assert row.waits_until > clock.now()
    assert str(row.reason).startswith("waits: ")
    assert {account.claim_id for account in accounts(context).values()} == {None}
    assert hand_out(context) == []
    asked = len(x.x.requests)
    with pytest.raises(PutOff, match="the I/O workers go on at"):
        fanout._give_up_if_long(long_wait(context))
    x.x.otherwise = answer
    with context.db.transaction() as session:
        session.query(RateWindow).delete()
        session.get_one(DataSet, "explorer").waits_until = clock.now()
    assert len(x.x.requests) == asked
    work(context)
    assert row_of(context).posts == 400


def long_wait(context: BotContext) -> DataSet:
    row = row_of(context)
    row.waits_until = clock.now() + 2 * fanout.LONGEST_WAIT
    return row


def test_who_waits_in_the_queue_while_the_window_fills_asks_for_nothing(plant: Plant) -> None:
    context, x = plant({"7": posts(50, 1), "8": posts(50, 2)})
    x.x.otherwise = lambda _: Reply(402, {"title": "Payment Required"})
    to_workers(context)
    first, second = hand_out(context)
    assert not read_page(context, first)
    asked = len(x.x.requests)
    assert not read_page(context, second)
    assert len(x.x.requests) == asked
    assert {account.claim_id for account in accounts(context).values()} == {None}


def test_nothing_that_was_not_agreed_to_is_begun(plant: Plant) -> None:
    context, x = plant({"7": posts(50)})
    to_workers(context)
    with context.db.transaction() as session:
        session.get_one(DataSet, "explorer").agreed = None
    assert hand_out(context) == []
    assert "what was agreed to is spent" in str(row_of(context).reason)
    assert x.pages == []
    with pytest.raises(ConsentMissingError):
        gather_by_workers(context, lambda: None, agree=lambda _: False, say=lambda _: None)


def test_what_was_agreed_to_ends_it_until_more_is(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short posts: more of them than was thought make up the tokens that were asked for."""
    monkeypatch.setattr(fanout, "LOOK_SECONDS", 0.05)
    context, x = plant({str(user): posts(150, user) for user in range(7, 10)})
    give(context, approximate_tokens=5_000, read_parents=False)  # 142 posts of 140 characters were expected
    to_workers(context)
    claimed = hand_out(context)
    assert whose(context, claimed) == ["7", "8"], "fifty cents under way are less than 71, a dollar is not"
    for claim_id in claimed:
        read_page(context, claim_id)
    assert hand_out(context) == []
    assert row_of(context).state == DataSetState.OPEN
    threads: list[threading.Thread] = []

    def send() -> None:
        threads.append(threading.Thread(target=work, args=(context,)))
        threads[-1].start()

    agreed: list[str] = []

    def agree(expected: object) -> bool:
        agreed.append(str(expected))
        return True

    found = gather_by_workers(context, send, agree=agree, say=lambda _: None)
    for thread in threads:
        thread.join()
    assert found.complete
    assert "approximate_tokens" in str(found.reason)
    assert len(agreed) >= 1
    assert len(x.pages) == 3


def test_another_config_and_a_pause_hold_it(plant: Plant) -> None:
    context, x = plant({"7": posts(50)})
    to_workers(context)
    (claim_id,) = hand_out(context)
    with context.db.transaction() as session:
        loops.pause(session, "explorer", "for the test", [LoopName.COMMUNITY])
    assert not read_page(context, claim_id)
    assert hand_out(context) == []
    with context.db.transaction() as session:
        loops.resume(session, "explorer", [LoopName.COMMUNITY])
    whole = context.config
    give(context, languages=["de"])
    assert hand_out(context) == []
    assert "sft.languages=['en']" in str(row_of(context).reason)
    assert x.pages == []
    context.config = whole
    with context.db.transaction() as session:
        session.get_one(DataSet, "explorer").waits_until = None
    work(context)
    assert row_of(context).posts == 50


def test_a_file_that_is_not_there_is_told_and_tried_again(plant: Plant) -> None:
    context, _ = plant({"7": posts(150)})
    to_workers(context)
    (first,) = hand_out(context)
    assert read_page(context, first)
    fanout._PAGES.close()
    place = manifest.directory(context.config)
    place.rename(place.with_suffix(".away"))
    (second,) = hand_out(context)
    with pytest.raises(RuntimeError, match=r"0\.json has 0 bytes"):
        read_page(context, second)
    row = row_of(context)
    assert "0.json has 0 bytes" in str(row.reason)
    assert hand_out(context) == [], "not before a while"
    with context.db.transaction() as session:
        assert [event.kind for event in session.scalars(select(Event))].count("data_set.held") == 1
        session.get_one(DataSet, "explorer").waits_until = None
    place.with_suffix(".away").rename(place)
    lapse(context)
    work(context)
    assert row_of(context).posts == 150


def test_a_data_set_whose_file_is_gone_does_not_end(plant: Plant) -> None:
    context, _ = plant({"7": posts(50)})
    to_workers(context)
    (claim_id,) = hand_out(context)
    assert read_page(context, claim_id)
    place = manifest.directory(context.config)
    place.rename(place.with_suffix(".away"))
    assert hand_out(context) == []
    row = row_of(context)
    assert row.state == DataSetState.OPEN
    assert "0.json has 0 bytes" in str(row.reason)
    place.with_suffix(".away").rename(place)
    with context.db.transaction() as session:
        session.get_one(DataSet, "explorer").waits_until = None
    assert hand_out(context) == []
    assert row_of(context).state == DataSetState.COMPLETE


def test_what_a_killed_worker_left_behind_the_last_page_is_cut_off(plant: Plant) -> None:
    context, _ = plant({"7": posts(50)})
    to_workers(context)
    (claim_id,) = hand_out(context)
    assert read_page(context, claim_id)
    place = manifest.directory(context.config)
    number = len(row_of(context).files)
    with (place / f"{number - 1}.json").open("ab") as file:
        file.write(b'{"post_id": "half a reco')
    (place / f"{number}.json").write_text("[")
    assert hand_out(context) == []
    assert row_of(context).state == DataSetState.COMPLETE
    assert len(everything(context)) == 50


def test_a_terminal_takes_over_what_is_left(plant: Plant) -> None:
    context, x = plant({"7": posts(250, 1), "8": posts(250, 2)})
    to_workers(context)
    seven, eight = hand_out(context)
    assert read_page(context, seven)
    taken = threading.Timer(1.0, lambda: lapse(context))  # the worker that has it was killed
    taken.start()
    assert gather(context, agree=lambda _: True).posts == 500
    taken.join()
    assert not read_page(context, eight)
    assert hand_out(context) == []
    assert len(x.pages) == len(set(x.pages)), "no page was read twice"


def test_a_kick_off_watches_the_workers_and_is_told_how_far_they_are(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fanout, "LOOK_SECONDS", 0.05)
    context, _ = plant({str(user): posts(120, user) for user in range(7, 10)})
    seen: list[int] = []
    said: list[str] = []
    threads: list[threading.Thread] = []

    def send() -> None:
        threads.append(threading.Thread(target=work, args=(context,)))
        threads[-1].start()

    found = gather_by_workers(
        context, send, agree=lambda _: True, report=lambda progress: seen.append(progress.posts), say=said.append
    )
    threads[0].join()
    assert (found.posts, found.complete) == (360, True)
    assert seen[-1] == 360
    assert seen == sorted(seen)
    assert said == ["data_set: asked for; the I/O workers take it when they are free"]
    assert PAGES_AT_ONCE > 3
