"""What the account may do: by tier, by what X answered, and again when time has passed."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from app import clock
from app.x import errors
from app.x.capabilities import Ability, Capabilities
from dbs.models import Capability, Event

REFUSED = errors.NotAllowed("only where you are mentioned", endpoint="POST /2/tweets", status=403, problem="p")


def later(database) -> None:
    with database.transaction() as session:
        session.execute(update(Capability).values(retry_at=clock.now() - timedelta(seconds=1)))


def events_of(database) -> list[tuple[str, str]]:
    with database.transaction() as session:
        return [(event.kind, event.subject) for event in session.scalars(select(Event).order_by(Event.event_id))]


@pytest.mark.parametrize("tier", ["pay-per-use", "basic", "pro"])
def test_self_serve_answers_only_who_called(database, bot, tier):
    may = Capabilities(database, bot.bot_id, tier)
    granted = {ability.value for ability in Ability if may.allows(ability).granted}
    assert granted == {"post", "reply"}
    verdict = may.allows("quote")
    assert verdict.source == "tier"
    assert tier in verdict.reason


def granted_rows(database) -> set[str]:
    with database.transaction() as session:
        return set(session.scalars(select(Capability.capability).where(Capability.granted)))


def test_what_the_tier_grants_stands_in_the_table(database, bot):
    Capabilities(database, bot.bot_id, "pro").declare()
    assert granted_rows(database) == {"post", "reply"}
    Capabilities(database, bot.bot_id, "enterprise").declare()
    assert granted_rows(database) == {ability.value for ability in Ability}


def test_declaring_the_tier_keeps_what_x_answered(database, bot):
    may = Capabilities(database, bot.bot_id, "enterprise")
    may.declare()
    may.learn("quote", REFUSED)
    may.declare()
    assert not may.allows("quote").granted
    assert "quote" not in granted_rows(database)


def test_enterprise_may_do_everything(database, bot):
    may = Capabilities(database, bot.bot_id, "enterprise")
    assert all(may.allows(ability).granted for ability in Ability)


def test_a_refusal_is_learnt_told_once_and_tried_again_after_a_day(database, bot):
    may = Capabilities(database, bot.bot_id, "enterprise")
    learnt = may.learn("quote", REFUSED)
    assert learnt is not None
    verdict = may.allows("quote")
    assert not verdict.granted
    assert verdict.source == "response"
    assert "mentioned" in verdict.reason
    assert timedelta(hours=23) < verdict.retry_at - clock.now() <= timedelta(days=1)
    assert may.allows("reply").granted
    may.learn("quote", REFUSED)
    assert events_of(database) == [("capability.lost", "quote")]
    later(database)
    assert may.allows("quote").granted


def test_success_ends_a_refusal(database, bot):
    may = Capabilities(database, bot.bot_id, "enterprise")
    may.learn("quote", REFUSED)
    may.confirm("quote")
    assert may.allows("quote").granted
    may.confirm("quote")
    assert events_of(database) == [("capability.lost", "quote"), ("capability.regained", "quote")]


@pytest.mark.parametrize("trouble", [errors.AccountLocked, errors.AccountSuspended, errors.Unauthorized])
def test_trouble_with_the_account_stops_everything_until_something_works(database, bot, trouble):
    may = Capabilities(database, bot.bot_id, "enterprise")
    may.learn("post", trouble("no"))
    assert not any(may.allows(ability).granted for ability in Ability)
    later(database)
    assert may.allows("reply").granted
    may.confirm("reply")
    assert all(may.allows(ability).granted for ability in Ability)
    assert events_of(database) == [("capability.lost", "account"), ("capability.regained", "account")]


@pytest.mark.parametrize(
    "error", [errors.Duplicate("x"), errors.Gone("x"), errors.OutcomeUnknown("x"), errors.RateLimited("x")]
)
def test_other_errors_teach_nothing(database, bot, error):
    may = Capabilities(database, bot.bot_id, "enterprise")
    assert may.learn("post", error) is None
    assert may.allows("post").granted


def test_a_capability_that_does_not_exist(database, bot):
    with pytest.raises(ValueError, match="dance"):
        Capabilities(database, bot.bot_id, "pro").allows("dance")
