"""The second mechanism: who is near reacts, what members pass on travels, and a text can overshoot."""

from __future__ import annotations

from copy import copy
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from app.sandbox.boundedconfidence import BoundedConfidenceCommunity
from app.sandbox.community import Draft, TasteCommunity
from app.sandbox.communityfile import CommunityFile, CommunityFileError, load
from app.sandbox.posts import Post, snowflake
from app.sandbox.server import create_app
from app.sandbox.settings import Keys, Settings
from app.sandbox.store import StateMismatchError

START = datetime(2026, 1, 5, tzinfo=UTC)
DULL = "That is a good thing for people to know about."
APT = "We counted 14 swifts on the chimney in May, because the roof was open."
OVERDONE = (
    "I thank you: we counted 14 swifts, 3 owls and 9 herons on Mill Road in May because our roof was open, so I hope "
    "they nest."
)


def with_opinion(**values: float) -> CommunityFile:
    file = load("default")
    return file.model_copy(update={"opinion": file.opinion.model_copy(update=values)})


@pytest.fixture(scope="module")
def community() -> BoundedConfidenceCommunity:
    return BoundedConfidenceCommunity(load("default"), 1, "explorer_bot")


def test_more_of_the_taste_pays_until_it_overshoots(community: BoundedConfidenceCommunity) -> None:
    taste = TasteCommunity(community.file, 1, "explorer_bot")
    dull, apt, overdone = (community.truth(Draft(text, "post", topic="birds")) for text in (DULL, APT, OVERDONE))
    assert dull.engagement < overdone.engagement < apt.engagement
    assert taste.truth(Draft(OVERDONE, topic="birds")).score > taste.truth(Draft(APT, topic="birds")).score
    assert dull.traits == taste.truth(Draft(DULL, topic="birds")).traits


def test_who_is_near_reacts(community: BoundedConfidenceCommunity) -> None:
    order = np.argsort(community.opinions)
    far, near = order[:100], order[-100:]
    close = community.closeness(2.0)
    assert close[near].mean() > 5 * close[far].mean()
    assert community.closeness(-2.0)[far].mean() > community.closeness(-2.0)[near].mean()


def test_reposts_carry_a_text_to_followers_and_nowhere_else() -> None:
    still = BoundedConfidenceCommunity(with_opinion(spreading=0.0), 1, "explorer_bot")
    spread = BoundedConfidenceCommunity(with_opinion(spreading=0.5), 1, "explorer_bot")
    alone = still.reach("birds", 1.0)
    assert alone == pytest.approx(still.people.appetite("birds") * still.closeness(1.0))
    gained = spread.reach("birds", 1.0) / alone
    follows = spread.people.follows.any(axis=1)
    assert gained[~follows] == pytest.approx(1.0)
    assert (gained[follows] > 1.0).all()


def test_truth_is_the_mean_of_what_happens(community: BoundedConfidenceCommunity) -> None:
    truth = community.truth(Draft(APT, topic="birds"))
    totals = []
    for seed in range(300):
        other = copy(community)
        other._seed = seed
        earned = other.react(Post(snowflake(START, 2), 1000001, APT, topic="birds"), None, [], {})
        end = int((START + timedelta(hours=24)).timestamp() * 1000)
        answers = [answer for answer in earned.written if answer.at.timestamp() * 1000 <= end]
        totals.append(earned.likes.count(end) + 2 * earned.reposts.count(end) + len(answers))
    error = np.std(totals) / np.sqrt(len(totals))
    assert np.mean(totals) == pytest.approx(truth.engagement, abs=3.5 * error)
    assert truth.engagement > 3


def test_a_text_that_nobody_is_near_earns_nothing_and_is_no_error() -> None:
    lonely = BoundedConfidenceCommunity(with_opinion(mean=0.0, spread=0.001, confidence=0.01), 1, "explorer_bot")
    insult = lonely.truth(Draft("You are all idiots and this is garbage.", topic="birds"))
    assert insult.engagement == 0
    assert lonely.react(Post(snowflake(START, 2), 1, "You are all idiots."), None, [], {}).likes.times == []


def test_opinions_that_no_ordinary_text_is_near_are_refused() -> None:
    with pytest.raises(CommunityFileError, match=r"opinion: got mean=1\.0.*raise `spread`"):
        BoundedConfidenceCommunity(with_opinion(mean=1.0, spread=0.001, confidence=0.01), 1, "explorer_bot")


def test_a_state_belongs_to_one_mechanism(tmp_path: Path) -> None:
    create_app(Settings(state=tmp_path, mechanism="bounded_confidence", keys=Keys()))
    with pytest.raises(StateMismatchError, match="mechanism='bounded_confidence'"):
        create_app(Settings(state=tmp_path, keys=Keys()))
