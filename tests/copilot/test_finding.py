"""What a person posted is found on the timeline, measured, and never rewarded."""

from __future__ import annotations

from datetime import timedelta

import pytest
from factories import BOT, give_draft
from offers import ONE, choose, draft_of, due_now, offer, preference, row
from scripted_x import Reply, ScriptedX, post
from sqlalchemy import select, update

from app import clock
from app.config import VibeBotConfig
from app.learning.rewarding import compute_rewards
from app.loops import PutOff
from app.posting import queue_drafts
from app.readiness import fresh_drafts
from app.sighting import find_awaited
from app.x_interactor import XInteractor
from dbs.models import Checkpoint, Engagement, Event, Post, Reward
from dbs.session import Database
from dbs.states import PostState, SentBy

SNOWFLAKE_EPOCH_MS = 1_288_834_974_657


def on_timeline(said: str, target: str = "55", **fields: object) -> dict[str, object]:
    """An own post as X shows it, made now."""
    x_post_id = str(int(clock.now().timestamp() * 1000) - SNOWFLAKE_EPOCH_MS << 22)
    facts = {
        "author_id": "1000001",
        "text": f"@ada {said}".replace("&", "&amp;"),
        "created_at": clock.now().strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "referenced_tweets": [{"type": "replied_to", "id": target}],
    }
    return post(x_post_id, **(facts | fields))


def shows(x: ScriptedX, *own: dict[str, object]) -> None:
    x.otherwise = Reply(body={"data": list(own), "meta": {"result_count": len(own)}})


def test_it_is_found_on_the_timeline_and_measured_like_any_other(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint, x: ScriptedX, interactor: XInteractor
) -> None:
    post_id = choose(database, config, offer(database, checkpoint)[0])
    assert find_awaited(database, interactor, config) == 0
    assert x.requests == []  # not due yet: nobody posts within a moment
    due_now(database)
    seen = on_timeline(ONE)
    shows(x, on_timeline("Something else", target="99"), seen)
    assert find_awaited(database, interactor, config) == 1
    found = row(database, post_id)
    assert (found.state, found.x_post_id, found.sent_by, found.edited) == ("posted", seen["id"], "person", False)
    assert found.content == ONE
    assert found.next_measure_at is not None
    assert found.due_at == found.post_time
    assert find_awaited(database, interactor, config) == 0
    assert {request.method for request in x.requests} == {"GET"}
    assert preference(database).edited_text is None


def test_what_was_changed_on_xs_page_is_recorded_as_it_stands_there(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint, x: ScriptedX, interactor: XInteractor
) -> None:
    chosen, _ = offer(database, checkpoint)
    post_id = choose(database, config, chosen)
    due_now(database)
    shows(x, on_timeline("Thanks & bye."), on_timeline("Which bridge is it & since when? Curious."))
    assert find_awaited(database, interactor, config) == 1
    found = row(database, post_id)
    assert (found.content, found.edited) == ("Which bridge is it & since when? Curious.", True)
    assert draft_of(database, chosen).edited
    assert preference(database).edited_text == found.content


def test_a_disclosure_is_no_part_of_what_was_chosen(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint, x: ScriptedX, interactor: XInteractor
) -> None:
    config = config.model_copy(update={"safety": config.safety.model_copy(update={"disclosure": "(automated)"})})
    choose(database, config, offer(database, checkpoint)[0])
    due_now(database)
    shows(x, on_timeline("Which bridge is it, and how old?\n\n(automated)"))
    assert find_awaited(database, interactor, config) == 1
    assert preference(database).edited_text == "Which bridge is it, and how old?"


@pytest.mark.parametrize(
    "own",
    [
        {"text": "@ada Call me tomorrow."},  # the person's own words
        {"referenced_tweets": [{"type": "replied_to", "id": "99"}]},
        {"created_at": "2026-01-05T08:00:00.000Z"},
    ],
    ids=["unlike", "elsewhere", "older"],
)
def test_what_is_not_it_is_not_taken_for_it(
    database: Database,
    config: VibeBotConfig,
    checkpoint: Checkpoint,
    x: ScriptedX,
    interactor: XInteractor,
    own: dict[str, object],
) -> None:
    post_id = choose(database, config, offer(database, checkpoint)[0])
    due_now(database)
    shows(x, on_timeline(ONE, **own))
    assert find_awaited(database, interactor, config) == 0
    assert row(database, post_id).state == PostState.AWAITED


def test_it_is_looked_for_ever_more_rarely_and_given_up_only_after_a_look(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint, x: ScriptedX, interactor: XInteractor
) -> None:
    post_id = choose(database, config, offer(database, checkpoint)[0])
    shows(x)
    due_now(database, queued_at=clock.now() - timedelta(hours=2))
    assert find_awaited(database, interactor, config) == 0
    waits = row(database, post_id)
    assert waits.due_at - clock.now() == pytest.approx(timedelta(hours=1), abs=timedelta(minutes=1))
    assert waits.absent_reads == 1
    due_now(database, expires_at=clock.now() - timedelta(seconds=1))
    x.otherwise = Reply(429, {"errors": [{"code": 88, "message": "Rate limit exceeded"}]})
    with pytest.raises(PutOff):
        find_awaited(database, interactor, config)
    assert row(database, post_id).state == PostState.AWAITED
    shows(x)
    assert find_awaited(database, interactor, config) == 1
    gone = row(database, post_id)
    assert gone.state == PostState.REJECTED
    assert "nobody posted it" in str(gone.state_reason)
    assert preference(database)  # the choice was made all the same
    with database.transaction() as session:
        assert {"copilot.chosen", "copilot.expired"} <= set(session.scalars(select(Event.kind)))


def test_a_person_may_say_the_same_to_two(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint, x: ScriptedX, interactor: XInteractor
) -> None:
    posts = [
        choose(database, config, offer(database, checkpoint, number, author_id=number)[0], "Well said, and thank you!")
        for number in ("55", "56")
    ]
    due_now(database)
    answers = [on_timeline("Well said, and thank you!", target=number) for number in ("55", "56")]
    answers[1]["id"] = str(int(str(answers[0]["id"])) + 1)
    shows(x, *answers)
    assert find_awaited(database, interactor, config) == 2
    assert {row(database, post_id).state for post_id in posts} == {PostState.POSTED}


def test_rewards_are_never_of_what_a_person_chose(
    database: Database, config: VibeBotConfig, checkpoint: Checkpoint, x: ScriptedX, interactor: XInteractor
) -> None:
    post_id = choose(database, config, offer(database, checkpoint)[0])
    due_now(database)
    shows(x, on_timeline(ONE))
    find_awaited(database, interactor, config)
    with database.transaction() as session:
        own = give_draft(session, checkpoint, "A post of the bot's own.")
    queue_drafts(database, config)
    with database.transaction() as session:
        session.execute(update(Post).values(state=PostState.POSTED, post_time=clock.now() - timedelta(days=2)))
        for measured in session.scalars(select(Post)):
            session.add(Engagement(
                post_id=measured.post_id, bot_id=BOT, retrieval_time=clock.now(), planned_age_s=86400, age_s=86400,
                likes=5, retweets=1, quotes=0, replies=1,
            ))  # fmt: skip
        session.flush()
        assert fresh_drafts(session, config) == 1
        assert compute_rewards(session, config, clock.now()).measured == 1
        assert session.scalars(select(Reward.draft_id)).all() == [own.draft_id]
        assert session.get_one(Post, post_id).sent_by == SentBy.PERSON
