"""Two drafts for a person to choose from: the same prompt, both within the rules, and not the same twice."""

from __future__ import annotations

from dataclasses import replace

import pytest
from author_life import accept_everything, drafts, make, see, states, with_loop
from factories import BOT
from sqlalchemy import select

from app import clock, copilot
from app.config import SafetyConfig, VibeBotConfig
from app.policy import pairs
from app.safety import Refusal
from dbs.models import Capability, DraftSample
from dbs.states import DraftState, Kind, SeenState


@pytest.fixture
def config(config: VibeBotConfig) -> VibeBotConfig:
    """Every post is worth an answer: what is chosen is not what is tested here."""
    return with_loop(config, selection_share=1.0).model_copy(update={"safety": SafetyConfig(copilot=True)})


@pytest.fixture
def forbidden(database, author) -> None:
    """A tier on which X takes no unsummoned reply and no quote."""
    with database.transaction() as session:
        for name in ("reply_unsummoned", "quote"):
            session.add(Capability(bot_id=BOT, capability=name, granted=False, source="tier", updated_at=clock.now()))


def refuse_some(monkeypatch, author, *refused: int) -> None:
    """Pass every draft but those at these places, counted over all that are written."""
    accept_everything(monkeypatch)
    write, seen = author._writer.write, [0]

    def written(*arguments):
        found = write(*arguments)
        places = range(seen[0], seen[0] + len(found))
        seen[0] += len(found)
        return [
            replace(draft, refusal=Refusal("gibberish", "a test says so")) if place in refused else draft
            for place, draft in zip(places, found, strict=True)
        ]

    monkeypatch.setattr(author._writer, "write", written)


def judged(author, database, count: int = 1, **changes) -> None:
    see(database, count, **changes)
    author.judge_seen()


def test_a_worthy_post_gets_two_drafts_that_wait_for_a_person(author, database, config, monkeypatch, forbidden):
    accept_everything(monkeypatch)
    judged(author, database, 2)
    assert author.draft_selected() == []  # nothing that the bot would send
    assert states(database) == {"100": SeenState.DRAFTED, "101": SeenState.DRAFTED}
    rows = drafts(database)
    assert sorted((row.target_post_id, row.attempt) for row in rows) == sorted(
        (x_post_id, attempt) for x_post_id in states(database) for attempt in (1, 2)
    )
    assert {(row.state, row.kind) for row in rows} == {(DraftState.OFFERED, Kind.REPLY)}
    with database.transaction() as session:
        samples = {row.draft_id: row for row in session.scalars(select(DraftSample))}
        assert len(copilot.offers(session, config)) == 2
    for x_post_id in states(database):
        one, other = (samples[row.draft_id] for row in rows if row.target_post_id == x_post_id)
        assert one.prompt_token_ids == other.prompt_token_ids
        assert one.output_token_ids != other.output_token_ids
        assert all(len(sample.logprobs) == len(sample.output_token_ids) for sample in (one, other))


def test_who_calls_the_bot_is_answered_by_the_bot(author, database, monkeypatch):
    accept_everything(monkeypatch)
    judged(author, database, 2, summons=True)
    assert len(author.draft_selected()) == 2
    assert [row.state for row in drafts(database)] == [DraftState.APPROVED] * 2


def test_a_refused_draft_is_written_again_beside_the_one_that_passed(author, database, monkeypatch):
    refuse_some(monkeypatch, author, 1)
    judged(author, database)
    author.draft_selected()
    assert [(row.attempt, row.state) for row in drafts(database)] == [
        (1, DraftState.OFFERED), (2, DraftState.REJECTED), (3, DraftState.OFFERED),
    ]  # fmt: skip
    assert states(database) == {"100": SeenState.DRAFTED}


def test_one_draft_is_no_choice(author, database, config, monkeypatch):
    refuse_some(monkeypatch, author, 1, 2, 3)
    judged(author, database)
    author.draft_selected()
    rows = drafts(database)
    assert [row.reject_rule for row in rows] == [pairs.UNPAIRED, "gibberish", "gibberish", "gibberish"]
    assert states(database) == {"100": SeenState.GIVEN_UP}
    with database.transaction() as session:
        assert copilot.offers(session, config) == []


def test_the_same_twice_is_no_choice(author, database, config, monkeypatch):
    refuse_some(monkeypatch, author)
    write = author._writer.write
    monkeypatch.setattr(
        author._writer,
        "write",
        lambda *args: [replace(d, sample=replace(d.sample, text="As ever.")) for d in write(*args)],
    )
    judged(author, database)
    author.draft_selected()
    assert [row.reject_rule for row in drafts(database)] == [pairs.UNPAIRED, *[pairs.TOO_ALIKE] * 3]
    assert states(database) == {"100": SeenState.GIVEN_UP}


def test_killed_between_two_attempts_it_goes_on_with_what_the_pair_lacks(author, database, config, model, monkeypatch):
    refuse_some(monkeypatch, author, 1)
    judged(author, database)
    write, calls = author._writer.write, []

    def killed_at_the_second(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return write(*arguments)

    monkeypatch.setattr(author._writer, "write", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        author.draft_selected()
    with database.transaction() as session:
        assert copilot.offers(session, config) == []  # half of a pair is shown to nobody
    make(config, database, model).draft_selected()
    assert [row.attempt for row in drafts(database)] == [1, 2, 3]
    with database.transaction() as session:
        assert len(copilot.offers(session, config)) == 1


def test_without_the_mode_such_a_post_is_not_even_judged(author, database, config, model, forbidden):
    see(database, 2)
    off = config.model_copy(update={"safety": SafetyConfig()})
    assert make(off, database, model).judge_seen() == []
