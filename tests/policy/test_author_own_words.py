"""What the author writes without being asked: posts of its own, and descriptions of members."""

from __future__ import annotations

import pytest
from author_life import accept_everything, drafts
from factories import BOT, give_seen
from sqlalchemy import select

from app import clock
from dbs.models import Community, DraftSample, Membership
from dbs.states import (
    DraftState,
    Kind,
    SeenState,
)


def test_a_post_of_its_own_has_a_topic_and_the_chance_of_it(author, database, monkeypatch):
    accept_everything(monkeypatch)
    with database.transaction() as session:
        for number in range(6):
            give_seen(session, str(number), str(number), text=f"The ferry {number} is late", state=SeenState.IGNORED)
    ids = [author.draft_own_post() for _ in range(4)]
    rows = {row.draft_id: row for row in drafts(database)}
    assert set(ids) == set(rows)
    assert "ferry" in {row.topic for row in rows.values()}
    for row in rows.values():
        assert (row.kind, row.target_post_id, row.state) == (Kind.POST, None, DraftState.APPROVED)
        assert 0 < row.selection_chance <= 1
        with database.transaction() as session:
            prompt = session.get_one(DraftSample, row.draft_id).prompt
        assert f"Write a post about {row.topic} in one sentence." in prompt
        assert ("People you follow posted" in prompt) == (row.topic in {"ferry", "late"})


def test_an_own_post_that_is_refused_is_kept_and_given_up(author, database, config):
    draft_id = author.draft_own_post()
    rows = drafts(database)
    assert [row.attempt for row in rows] == list(range(1, len(rows) + 1))
    if draft_id is None:
        assert len(rows) == config.loop.max_drafts_per_target
        assert all(row.reject_rule for row in rows)


def test_members_are_summarised_from_three_posts_on(author, database, monkeypatch):
    monkeypatch.setattr("app.policy.author.check_text", lambda *_, **__: None)
    with database.transaction() as session:
        for number, posts in ((1, 3), (2, 2), (4, 5)):
            for post in range(posts):
                give_seen(session, f"{number}{post}", str(number), state=SeenState.IGNORED)
        session.get_one(Membership, (BOT, "4")).opted_out_at = clock.now()
        session.get_one(Community, "1").account_summary = None
    assert author.summarise_members(10) == 1
    with database.transaction() as session:
        rows = {row.user_id: row for row in session.scalars(select(Community))}
    assert rows["1"].account_summary
    assert "\n" not in rows["1"].account_summary
    assert rows["1"].summary_at is not None
    assert rows["2"].summary_at is None
    assert rows["4"].summary_at is None
    assert author.summarise_members(10) == 0


def test_a_summary_that_the_rules_refuse_does_not_stand_in_prompts(author, database, monkeypatch):
    monkeypatch.setattr(author, "_summary", lambda _: None)
    with database.transaction() as session:
        for post in range(3):
            give_seen(session, str(post), "1", state=SeenState.IGNORED)
    assert author.summarise_members(10) == 0
    with database.transaction() as session:
        row = session.get_one(Community, "1")
        assert row.account_summary == "Writes about trams."
        assert row.summary_at is not None


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        (" trams and ferries. And more.", "Writes about trams and ferries."),
        (" trams\nLine two", "Writes about trams"),
        ("Follow @someone for https://spam.example", None),
        ("", None),
    ],
)
def test_a_summary_is_one_clean_sentence(author, text, summary):
    assert author._summary(text) == summary
