"""Gathering the data set from an X that says exactly what was planted."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from scripted_x import Reply
from timelines import Plant, protected, suspended

from app.config import Secrets
from app.context import BotContext
from app.data import manifest
from app.data.gathering import ConsentMissingError, Gathered, gather
from app.data.optin import OptInMissingError, is_live_x
from app.loading import ConfigError
from app.loops import PutOff
from dbs.models import DataSet, Event, RateWindow
from dbs.states import SourceState

NOUNS = ("heron", "kestrel", "otter", "lantern", "kettle", "harbour", "thistle", "comet", "ladder", "pebble")
VERBS = ["counted", "painted", "mended", "followed", "measured", "borrowed", "sketched", "carried"]


def plain(number: int) -> dict[str, Any]:
    """A post that no filter minds and that is like no other."""
    a, b = NOUNS[number % len(NOUNS)], NOUNS[number // len(NOUNS) % len(NOUNS)]
    verb = VERBS[number % len(VERBS)]
    return {"text": f"Somebody {verb} {number} of the {a} {number * 7} times before the {b} {number * 13} was closed."}


def everything(context: BotContext) -> list[dict[str, Any]]:
    """Every post of every file, read with nothing but a JSON parser; each file must be whole."""
    place = manifest.directory(context.config)
    posts: list[dict[str, Any]] = []
    for number in range(len(list(place.glob("[0-9]*.json")))):
        posts += [item for item in json.loads((place / f"{number}.json").read_bytes()) if item is not None]
    return posts


def run(context: BotContext, **options: Any) -> Gathered:
    return gather(context, agree=lambda _: True, **options)


def test_the_filters_count_what_was_planted(plant: Plant) -> None:
    kept = [plain(i) for i in range(40)]
    repost = {"text": "RT @b: look", "referenced_tweets": [{"type": "retweeted", "id": "55"}]}
    links = [{"text": f"https://t.co/abc{i} @member8"} for i in range(3)]
    foreign = [{"text": f"Heute {i} Reiher gezählt", "lang": "de"} for i in range(4)]
    wordless = [{"text": "🙂🙂", "lang": "qme"}, {"text": "!!!", "lang": "und"}]
    unknown = [{"text": "hmm", "lang": "und"}]
    personal = [
        {"text": "write to jane.doe@example.org for the key"},
        {"text": "call me on +49 30 901820 before nine"},
        {"text": "my card is 4111 1111 1111 1111, do not laugh"},
        {"text": "pay to DE89 3704 0044 0532 0130 00 by Friday"},
        {"text": "the box answers at 8.8.8.8 again"},
    ]
    again = [
        {"text": kept[0]["text"].upper()},
        {"text": "@member8 " + kept[1]["text"] + " https://t.co/zzz"},
        {"text": kept[2]["text"].replace(".", "!")},
    ]
    context, _ = plant(
        {
            "7": [*again, *kept[:20], repost, *links, *foreign],
            "8": [repost, repost, *wordless, *unknown, *personal, *kept[20:]],
        }
    )
    context.config = context.config.model_copy(
        update={"sft": context.config.sft.model_copy(update={"read_reposts": True})}
    )
    found = run(context)
    assert found.dropped == {
        "repost": 3,
        "bare_link": 3,
        "other_language": 4,
        "no_words": 2,
        "no_language": 1,
        "personal_data": 5,
        "near_duplicate": 3,
    }
    assert found.complete
    assert found.posts == 40
    # The newest of two that are alike is met first and kept.
    assert sorted(item["text"] for item in everything(context)) == sorted(item["text"] for item in kept)
    assert found.files > 1
    place = manifest.directory(context.config)
    assert all((place / f"{number}.json").stat().st_size <= 2_000 for number in range(found.files))
    assert json.loads((place / "manifest.json").read_text())["dropped"] == found.dropped


def test_reposts_that_are_not_counted_are_not_paid_for(plant: Plant) -> None:
    repost = {"text": "RT @b: look", "referenced_tweets": [{"type": "retweeted", "id": "55"}]}
    context, _ = plant({"7": [plain(1), repost, repost, plain(2)]})
    found = run(context)
    assert found.dropped == {}
    assert found.usd == pytest.approx(2 * 0.005)


def test_members_take_turns_and_what_cannot_be_read_is_recorded(plant: Plant) -> None:
    context, x = plant({"7": [plain(i) for i in range(250)], "8": [], "9": [plain(i) for i in range(300, 420)]})
    x.posts["8"] = [plain(0)]
    x.refused = {"8": protected()}
    with context.db.transaction() as session:
        before = manifest.begin(session, context.config).before_id
    run(context)
    assert [author for author, _ in x.pages] == ["7", "9", "7", "9", "7"], "8 refuses and is asked once"
    assert {until for _, until in x.pages[:2]} == {before}
    with context.db.transaction() as session:
        rows = {row.account: row for row in manifest.accounts(session, context.config.bot_id)}
    assert (rows["7"].state, rows["7"].read, rows["7"].turns) == (SourceState.EXHAUSTED, 250, 3)
    assert rows["8"].state == SourceState.PROTECTED
    assert "may not see" in str(rows["8"].reason)


def test_a_suspended_member_is_gone(plant: Plant) -> None:
    context, x = plant({"7": [plain(1)], "8": []})
    x.refused = {"8": suspended()}
    run(context)
    with context.db.transaction() as session:
        states = {row.account: row.state for row in manifest.accounts(session, context.config.bot_id)}
    assert states == {"7": SourceState.EXHAUSTED, "8": SourceState.GONE}


def test_an_account_ends_at_the_limit_of_posts(plant: Plant) -> None:
    context, x = plant({"7": [plain(i) for i in range(230)]})
    context.config = context.config.model_copy(
        update={"sft": context.config.sft.model_copy(update={"posts_per_account": 120})}
    )
    assert run(context).posts == 120
    assert len(x.pages) == 2


def test_replies_carry_what_they_answer(plant: Plant) -> None:
    reply = plain(3) | {"referenced_tweets": [{"type": "replied_to", "id": "55"}], "in_reply_to_user_id": "77"}
    reply["text"] = "@ada_l " + reply["text"]
    orphan = plain(4) | {"referenced_tweets": [{"type": "replied_to", "id": "56"}]}
    context, x = plant({"7": [reply, orphan]})
    x.parents["55"] = {
        "id": "55",
        "text": "Who counts herons?",
        "author_id": "77",
        "created_at": "2026-01-05T08:00:00Z",
    }
    found = run(context)
    posts = {item["text"]: item for item in everything(context)}
    assert posts[reply["text"]]["parent_text"] == "Who counts herons?"
    assert posts[reply["text"]]["parent_handle"] == "ada_l"
    assert "parent_text" not in posts[orphan["text"]]
    assert found.usd == pytest.approx(3 * 0.005), "two posts, and the one parent that was found"


def test_money_ends_it_and_more_money_lets_it_go_on(plant: Plant) -> None:
    context, x = plant({"7": [plain(i) for i in range(250)]})
    whole = context.config
    poor = whole.sft.model_copy(update={"max_cost": 1.2, "read_parents": False})
    context.config = whole.model_copy(update={"sft": poor})
    found = run(context)
    assert "sft.max_cost=$1.2" in str(found.reason)
    assert (found.posts, len(x.pages)) == (200, 2)
    context.config = whole.model_copy(update={"sft": poor.model_copy(update={"max_cost": 100.0})})
    assert run(context).posts == 250
    assert len(x.pages) == 3


def test_tokens_and_memory_end_it(plant: Plant) -> None:
    context, x = plant({"7": [plain(i) for i in range(250)]})
    whole = context.config
    context.config = whole.model_copy(update={"sft": whole.sft.model_copy(update={"approximate_tokens": 100})})
    assert "approximate_tokens" in str(run(context).reason)
    assert len(x.pages) == 1
    context.config = whole.model_copy(update={"sft": whole.sft.model_copy(update={"max_memory_gb": 0.001})})
    assert "max_memory_gb" in str(run(context).reason)
    assert len(x.pages) == 1


def test_it_says_what_it_costs_and_asks_once(plant: Plant) -> None:
    context, x = plant({"7": [plain(i) for i in range(120)], "8": [plain(i) for i in range(200, 230)]})
    with pytest.raises(ConsentMissingError, match=r"2 account\(s\), at most 6,400 posts.*\$64\.00.*--yes"):
        gather(context)
    assert x.pages == []
    asked: list[str] = []

    def agree(expected: object) -> bool:
        asked.append(str(expected))
        return len(asked) > 1

    with pytest.raises(ConsentMissingError):
        gather(context, agree=agree)
    assert gather(context, agree=agree).posts == 150
    gather(context, agree=agree)
    assert len(asked) == 2
    with context.db.transaction() as session:
        assert [event.kind for event in session.query(Event)].count("data_set.agreed") == 1


@pytest.mark.parametrize(("seconds", "told"), [(3600.0, [0]), (0.0, [0, 100, 200, 250])])
def test_progress_is_told_between_pages_and_not_too_often(
    plant: Plant, monkeypatch: pytest.MonkeyPatch, seconds: float, told: list[int]
) -> None:
    monkeypatch.setattr("app.data.gathering.REPORT_SECONDS", seconds)
    context, _ = plant({"7": [plain(i) for i in range(250)]})
    seen: list[int] = []
    gather(context, agree=lambda _: True, report=lambda progress: seen.append(progress.posts))
    assert seen == told


def test_a_full_window_is_put_off_and_gone_on_with(plant: Plant) -> None:
    context, x = plant({"7": [plain(i) for i in range(250)]})
    answer = x.answer
    x.x.otherwise = lambda request: answer(request) if len(x.pages) < 1 else Reply(429, {"title": "Too Many Requests"})
    with pytest.raises(PutOff):
        run(context, wait=False)
    with context.db.transaction() as session:
        assert str(session.get_one(DataSet, "explorer").reason).startswith("waits: ")
    assert len(everything(context)) == 100
    x.x.otherwise = answer
    with context.db.transaction() as session:
        session.query(RateWindow).delete()
    assert run(context, wait=False).posts == 250
    assert len({item["post_id"] for item in everything(context)}) == 250


def test_what_a_killed_process_left_is_cut_off(plant: Plant) -> None:
    context, x = plant({"7": [plain(i) for i in range(150)]})
    answer = x.answer
    x.x.otherwise = lambda request: answer(request) if len(x.pages) < 1 else Reply(402, {"title": "Payment Required"})
    with pytest.raises(PutOff):
        run(context)
    place = manifest.directory(context.config)
    files = sorted(place.glob("[0-9]*.json"), key=lambda file: int(file.stem))
    with files[-1].open("ab") as file:
        file.write(b'{"post_id": "half a reco')
    (place / f"{len(files)}.json").write_text("[")
    x.x.otherwise = answer
    assert run(context).posts == 150
    assert len({item["post_id"] for item in everything(context)}) == 150


def test_a_file_that_was_cut_is_refused(plant: Plant) -> None:
    context, _ = plant({"7": [plain(i) for i in range(30)]})
    run(context)
    file = manifest.directory(context.config) / "0.json"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(RuntimeError, match=r"0\.json has 50 bytes.*--fresh"):
        run(context)


def test_other_filters_need_a_new_data_set(plant: Plant) -> None:
    context, _ = plant({"7": [plain(i) for i in range(5)]})
    run(context)
    context.config = context.config.model_copy(
        update={"sft": context.config.sft.model_copy(update={"languages": ["de"]})}
    )
    with pytest.raises(ConfigError, match=r"sft\.languages=\['en'\].*--fresh"):
        run(context)
    with context.db.transaction() as session:
        manifest.discard(session, context.config)
    assert run(context).dropped == {"other_language": 5}


def test_live_x_needs_an_opt_in(plant: Plant) -> None:
    context, x = plant({"7": [plain(1)]})
    assert not is_live_x(context.secrets)
    assert is_live_x(Secrets(x_base_url="https://api.twitter.com"))
    assert is_live_x(Secrets(x_base_url="http://10.0.0.7:8000"))
    context.secrets = context.secrets.model_copy(update={"x_base_url": "https://api.x.com"})
    with pytest.raises(OptInMissingError, match=r"sft\.train_on_live_x.*guidelines prohibit"):
        run(context)
    assert x.pages == []


def test_the_estimate_knows_what_is_left(plant: Plant) -> None:
    context, _ = plant({"7": [plain(i) for i in range(20)]})
    run(context)
    with context.db.transaction() as session:
        row = manifest.begin(session, context.config)
        left = manifest_estimate(context, row, session)
    assert (left.accounts, left.posts, left.usd) == (0, 0, 0.0)
    assert replace(left, hours=0.0) == left


def manifest_estimate(context: BotContext, row: DataSet, session: Any) -> Any:
    from app.data.estimate import estimate

    return estimate(context.config, row, manifest.accounts(session, context.config.bot_id))
