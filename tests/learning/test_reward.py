"""The reward: its worked examples, its formula against an obvious version, and which drafts are due one."""

from __future__ import annotations

import doctest
import math
from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import select

from app.config import REWARD_PRESETS, PPOConfig
from app.learning import dataset, expectation, reward, stance
from app.learning.expectation import AUTHOR_WEIGHT, author_factors, dispersion, expect
from app.learning.features import NAMES, Facts, encode
from app.learning.reward import RewardInput, engagement, explain, reward_version, score, window_of
from app.learning.rewarding import compute_rewards
from dbs.models import QuoteComment, Reward
from dbs.states import DraftState, Kind, PostState
from tests.learning.world import BOT, NOW, World, config

PLAIN = REWARD_PRESETS["plain"]


@pytest.mark.parametrize("module", [reward, stance, dataset])
def test_worked_examples(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def facts(**changes) -> Facts:
    return Facts(**({"kind": Kind.REPLY, "hour_utc": 3, "weekday": 2} | changes))


def test_every_fact_has_a_column_and_missing_is_not_zero():
    row = encode([facts(likes=0, retweets=0, replies=0, quotes=0, followers=0)])[0]
    missing = encode([facts()])[0]
    assert len(row) == len(NAMES)
    assert row[NAMES.index("counts_missing")] == 0
    assert missing[NAMES.index("counts_missing")] == 1
    assert missing[NAMES.index("followers_missing")] == 1
    own = encode([facts(kind=Kind.POST)])[0]
    assert own[NAMES.index("counts_missing")] == 0  # a post of its own has no target whose counts could be missing
    assert encode([]).shape == (0, len(NAMES))


def places(n: int, seed: int = 0) -> tuple[list[Facts], np.ndarray]:
    """Posts whose expected engagement grows with the target's likes, doubled for one author."""
    draw = np.random.default_rng(seed)
    rows, truth = [], []
    for _ in range(n):
        likes, author = int(draw.gamma(1, 20)), str(draw.integers(12))
        followers, hour = int(draw.gamma(1, 500)), int(draw.integers(24))
        truth.append(0.6 * (1 + likes) ** 0.5 * (2.0 if author == "3" else 1.0))
        rows.append(
            facts(
                author_id=author, likes=likes, retweets=likes // 4, replies=int(draw.integers(4)), quotes=0,
                velocity=likes / 2, age_s=float(draw.integers(600, 36000)), followers=followers, hour_utc=hour,
                weekday=int(draw.integers(7)), kind=str(draw.choice([Kind.REPLY, Kind.POST])),
            )
        )  # fmt: skip
    return rows, np.array(truth)


def test_the_regression_finds_what_places_earn():
    rows, truth = places(1500)
    earned = np.random.default_rng(1).negative_binomial(2, 2 / (2 + truth)).astype(float)
    found = expect(rows, earned)
    assert found.method == "negative binomial"
    assert np.corrcoef(np.log(found.mean), np.log(truth))[0, 1] > 0.9
    assert found.mean.mean() == pytest.approx(truth.mean(), rel=0.1)
    assert found.dispersion == pytest.approx(0.5, abs=0.2)
    popular = np.array([row.author_id == "3" for row in rows])
    assert found.author[popular].mean() > 1.5
    assert found.author[~popular].mean() == pytest.approx(0.95, abs=0.15)


def test_thin_data_falls_back_to_the_mean_of_its_kind_drawn_to_the_mean_of_all():
    rows = [facts(kind=Kind.REPLY)] * 6 + [facts(kind=Kind.POST)] * 2
    earned = np.array([2.0, 0, 1, 3, 0, 0, 10, 6])
    found = expect(rows, earned)
    assert found.method == "mean of its kind"
    overall = 22 / 8
    assert found.place[0] == pytest.approx((6 + 10 * overall) / 16)
    assert found.place[-1] == pytest.approx((16 + 10 * overall) / 12)
    one = expect([facts()], np.array([0.0]))
    assert one.mean[0] > 0
    assert np.isfinite(one.variance).all()


def test_author_factor_is_the_slow_one_and_leaves_its_own_post_out():
    rows = [facts(author_id=a) for a in ("a", "a", "a", "b")] + [facts()]
    earned, place = np.array([4.0, 0, 5, 1, 9]), np.array([1.0, 2, 1, 1, 1])
    found = author_factors(rows, earned, place)
    for i in range(3):
        others = [j for j in range(3) if j != i]
        slow = (AUTHOR_WEIGHT + sum(earned[j] for j in others)) / (AUTHOR_WEIGHT + sum(place[j] for j in others))
        assert found[i] == pytest.approx(slow)
    assert found[3] == 1.0  # nobody else's post says anything about b
    assert found[4] == 1.0


def test_dispersion_of_poisson_is_none_and_of_negative_binomial_is_its_own():
    draw = np.random.default_rng(0)
    mean = draw.uniform(1, 8, 20_000)
    assert dispersion(draw.poisson(mean).astype(float), mean) == pytest.approx(0, abs=0.02)
    assert dispersion(draw.negative_binomial(4, 4 / (4 + mean)).astype(float), mean) == pytest.approx(0.25, abs=0.03)


def test_a_reward_is_about_the_post_and_not_its_place():
    """Places differ tenfold, texts by half: the reward follows the texts."""
    rows, truth = places(1200, seed=4)
    draw = np.random.default_rng(5)
    good = draw.random(1200) < 0.5
    counts = draw.poisson(truth * np.where(good, 1.25, 0.75))
    inputs = [
        RewardInput(row, engagement({"likes": int(c), "retweets": 0, "quotes": 0, "replies": 0}, PLAIN))
        for row, c in zip(rows, counts, strict=True)
    ]
    rewards = np.array([terms["reward"] for terms in score(inputs, floor=-2.0)])
    assert rewards[good].mean() - rewards[~good].mean() > 0.4
    assert abs(np.corrcoef(rewards, np.log(truth))[0, 1]) < 0.1
    assert rewards.min() >= -2.0
    assert rewards.mean() == pytest.approx(0, abs=0.05)
    assert rewards.std() == pytest.approx(1, abs=0.05)


def test_window_is_shrunken_while_thin():
    assert window_of(np.array([])) == reward.Window(0, 0.0, 1.0)
    values = np.array([1.0, 3.0])
    found = window_of(values)
    assert found.mean == pytest.approx(2 * 2 / 12)
    assert found.sd == pytest.approx(math.sqrt((2 * 1 + 10) / 12))
    assert window_of(np.zeros(500)).sd > 0


def test_hostility_counts_against_a_post_whatever_its_number():
    counts = {"likes": 2, "retweets": 0, "quotes": 4, "replies": 30}
    friendly = engagement(counts, PLAIN, quotes=(0.4,), replies=(0.5, 0.0))
    ratioed = engagement(counts, PLAIN, quotes=(-0.6,), replies=(-0.5, -0.9))
    unread = engagement(counts, PLAIN)
    assert friendly.total == 36
    assert ratioed.total == 2 - 34
    assert unread.total == 36


def test_explanation_adds_up():
    counts = {"likes": 9, "retweets": 2, "quotes": 1, "replies": 4}
    many = [RewardInput(facts(author_id="a"), engagement(counts, PLAIN, replies=(-0.5, 0.5)))] * 3
    text = explain(score(many, floor=-2.0)[0])
    assert "replies      4 × 1 = 4.00, 50% hostile: 2.00 for, 2.00 against" in text
    assert "engagement   16.00 − 2.00 = 14.00" in text
    assert "mean of its kind" in text
    low = reward.reward_terms(many[0].engagement, reward.Place(60.0, 4.0), reward.Window(9, 0.0, 1.0), floor=-2.0)
    assert "clipped to -3.00" in explain(low)
    assert "held at the floor" in explain(low)


def test_version_follows_every_setting_of_the_formula():
    versions = {
        reward_version(PPOConfig(**changes))
        for changes in ({}, {"reward_weights": "ranker"}, {"reward_age": 60}, {"refused_reward": -1.0})
    }
    assert len(versions) == 4
    assert reward_version(PPOConfig()) == reward_version(PPOConfig(learning_rate=0.1))


@pytest.fixture
def world(database, bot) -> World:
    return World(database)


def rewards_of(database) -> dict:
    with database.transaction() as session:
        return {row.draft_id: row for row in session.scalars(select(Reward))}


def test_what_is_due_is_rewarded_once(world, database, tmp_path):
    settings = config(tmp_path)
    measured = world.draft()
    post_id = world.post(measured, likes=5, age_h=25)
    world.measure(post_id, 4, likes=1, retweets=0, quotes=0, replies=0)
    world.measure(post_id, 48, likes=50, retweets=0, quotes=0, replies=0)
    too_long = world.draft(state=DraftState.REJECTED, reject_rule="too_long")
    gone = world.draft()
    world.post(gone, deleted_at=NOW - timedelta(days=2) + timedelta(hours=3))
    never = {
        "young": world.draft(),
        "dry": world.draft(),
        "failed": world.draft(),
        "edited": world.draft(edited=True),
        "circumstance": world.draft(state=DraftState.REJECTED, reject_rule="cooldown"),
        "withheld": world.draft(state=DraftState.REJECTED, reject_rule="withheld"),
        "incomplete": world.draft(),
        "waiting": world.draft(state=DraftState.APPROVED),
    }
    world.post(never["young"], likes=3, age_h=4)
    world.post(never["dry"], likes=3, state=PostState.DRY)
    world.post(never["failed"], likes=3, state=PostState.FAILED)
    world.post(never["edited"], likes=3)
    world.measure(world.post(never["incomplete"]), 24, likes=4, retweets=None, quotes=0, replies=0)
    with database.transaction() as session:
        found = compute_rewards(session, settings, NOW)
    assert (found.measured, found.refused) == (1, 2)
    rows = rewards_of(database)
    assert rows.keys() == {measured, too_long, gone}
    assert rows[measured].engagement == 5.0
    assert rows[measured].age_s == 25 * 3600
    assert rows[too_long].reward == rows[gone].reward == -2.0
    assert rows[too_long].engagement is None
    assert "taken_down" in explain(rows[gone].terms)
    before = {key: (row.reward, row.terms) for key, row in rows.items()}

    later = world.draft()
    world.post(later, likes=400)
    with database.transaction() as session:
        assert compute_rewards(session, settings, NOW + timedelta(days=1)).measured == 1
    after = rewards_of(database)
    assert {key: (after[key].reward, after[key].terms) for key in before} == before
    assert after[later].reward > after[measured].reward
    with database.transaction() as session:
        assert compute_rewards(session, settings, NOW + timedelta(days=2)) == type(found)(0, 0)


def test_replies_are_read_once_and_signed(world, database, tmp_path):
    draft = world.draft()
    post_id = world.post(draft)
    world.measure(post_id, 24, likes=1, retweets=0, quotes=1, replies=4)
    world.answer(post_id, "this is horrible, you are a disgusting liar")
    world.answer(post_id, "what about the night trams?")
    world.answer(post_id, "I love this!", comment=False)
    world.answer(post_id, "Das ist nicht wahr", lang="de")
    world.answer(post_id, "I hate myself, terrible", author="1000001")  # the bot's own
    with database.transaction() as session:
        compute_rewards(session, config(tmp_path), NOW)
    row = rewards_of(database)[draft]
    assert row.terms["engagement"]["hostile_share"] == {"quotes": 0.0, "replies": 0.5}
    assert row.engagement == 1 + 1 + 2 - 2
    with database.transaction() as session:
        stances = {r.content: r.stance for r in session.scalars(select(QuoteComment))}
    assert stances["Das ist nicht wahr"] is None
    assert stances["I hate myself, terrible"] is None
    assert stances["this is horrible, you are a disgusting liar"] < -0.5


def test_another_formula_rewards_anew_and_leaves_the_old(world, database, tmp_path):
    draft = world.draft()
    world.post(draft, likes=5)
    for settings in (config(tmp_path), config(tmp_path, reward_weights="ranker")):
        with database.transaction() as session:
            assert compute_rewards(session, settings, NOW).measured == 1
    with database.transaction() as session:
        rows = session.scalars(select(Reward).where(Reward.draft_id == draft, Reward.bot_id == BOT)).all()
    assert {row.engagement for row in rows} == {5.0, 2.5}
    assert expectation.MIN_MEAN > 0
