"""The gate: its estimator against the truth, its limits against good and sabotaged texts, the canary's coverage."""

from __future__ import annotations

import itertools
import math
from datetime import timedelta

import numpy as np
import pytest

from app.learning.baseline import cross_fitted
from app.learning.canary import Decision, Outcome, Ruling, decide, half_width, randomised_effects
from app.learning.gate import PROFILES, judge, refuse
from app.learning.offpolicy import Estimate, ess, estimate, shrink, snips
from app.learning.textmeasures import Sampled, distinct, measure, near_duplicates
from tests.learning.world import NOW

DEMO, PRODUCTION = PROFILES["demo"], PROFILES["production"]


def bandit(n: int, tilt: float, seed: int):
    """Logged choices among 6 texts in places of differing worth; the candidate prefers better texts by `tilt`."""
    draw = np.random.default_rng(seed)
    worth = np.array([0.5, 0.8, 1.0, 1.2, 1.5, 2.0])
    behaviour = np.full(6, 1 / 6)
    candidate = np.exp(tilt * worth) / np.exp(tilt * worth).sum()
    chosen = draw.choice(6, size=n, p=behaviour)
    place = draw.gamma(4, 0.5, n)
    outcome = draw.poisson(2 * place * worth[chosen]).astype(float)
    features = np.column_stack([np.log(place), np.ones(n)])
    truth = float((candidate - behaviour) @ worth) / float(behaviour @ worth)
    return np.log(candidate)[chosen], np.log(behaviour)[chosen], outcome, features, truth


@pytest.mark.parametrize("tilt", [-0.8, 0.0, 0.8])
def test_estimate_covers_the_true_lift(tilt):
    hits, lifts = 0, []
    for seed in range(40):
        ours, logged, outcome, features, truth = bandit(250, tilt, seed)
        found = estimate(ours, logged, logged, outcome, features)
        hits += found.lift_lower - 1e-9 <= truth <= found.lift_upper + 1e-9
        lifts.append(found.lift)
    assert hits >= 32  # nominal 36 of 40; winsorising and the normal limit cost a little
    assert float(np.mean(lifts)) == pytest.approx(truth, abs=0.05)


def test_estimate_is_the_slow_formula():
    ours, logged, outcome, features, _ = bandit(60, 0.5, 1)
    found = estimate(ours, logged, logged, outcome, features)
    cut = np.minimum(outcome, np.quantile(outcome, 0.99))
    rest = cut - cross_fitted(features, cut)
    terms = []
    for i in range(60):
        w, v = math.exp(ours[i] - logged[i]), 1.0
        lam = found.shrinkage
        w, v = lam * w / (w * w + lam), lam * v / (v * v + lam)
        terms.append((w - v) * rest[i])
    assert found.difference == pytest.approx(np.mean(terms))
    assert found.upper - found.lower == pytest.approx(2 * 1.645 * np.std(terms, ddof=1) / math.sqrt(60))


def test_shrinking_tames_a_heavy_weight():
    weights = np.array([0.5, 1.0, 400.0])
    assert float(shrink(np.linspace(0, 50, 999), 25.0).max()) == pytest.approx(2.5, abs=1e-3)
    assert shrink(weights, 100.0)[2] < 0.5
    assert shrink(weights, 100.0)[0] == pytest.approx(0.5, abs=0.01)
    assert snips(np.array([1.0, 3.0]), np.array([4.0, 0.0])) == 1.0
    assert ess(np.zeros(7)) == pytest.approx(7)


def test_one_giant_weight_does_not_carry_the_estimate():
    ours, logged, outcome, features, _ = bandit(100, 0.0, 3)
    ours[int(outcome.argmax())] += 12.0
    found = estimate(ours, logged, logged, outcome, features)
    assert abs(found.lift) < 1
    assert found.lift_lower > -1


def test_a_collapsed_policy_fails_by_its_sample_size_though_snips_flatters_it():
    """The notes' case: a policy that puts everything on a few lucky posts."""
    draw = np.random.default_rng(0)
    logged = np.full(300, -40.0)
    ours = np.full(300, -90.0)
    outcome = draw.poisson(1.0, 300).astype(float)
    lucky = int(outcome.argmax())
    ours[lucky] = -40.0
    found = estimate(ours, logged, logged, outcome, draw.normal(size=(300, 3)))
    assert found.snips > 1
    assert found.ess < 3
    verdict = judge(PRODUCTION, found, good(), good())
    assert not verdict.passed
    assert "60 are needed" in verdict.reasons[0]


STOCK = ("tram", "bread", "river", "engine", "clock", "garden", "signal", "bridge", "winter", "copper", "orbit") * 2


def text(i: int, words: int = 14) -> str:
    draw = np.random.default_rng(i)
    return "The " + " ".join(draw.choice(STOCK, words)) + f" of {STOCK[i % 15]} street."


def sampled(content: str, **changes) -> Sampled:
    facts = {
        "text": content, "tokens": 20, "finished": True, "refused_by": None, "own_logprob": -50.0,
        "reference_logprob": -51.0,
    }  # fmt: skip
    return Sampled(**(facts | changes))


def good(start: int = 0, **changes):
    return measure([sampled(text(start + i), **changes) for i in range(24)])


def even(n: int = 100) -> Estimate:
    return Estimate(n, 80.0, 2.0, 0.02, -0.1, 0.14, 0.01, math.inf)


SABOTAGED = {
    "empty": [sampled("") for _ in range(24)],
    "one text for all": [sampled(text(3)) for _ in range(24)],
    "repetitive": [sampled("so good " * 8) for _ in range(24)],
    "few words": [sampled("bread tram " + text(i % 2, 3)) for i in range(24)],
    "hostile": [sampled(f"You are a disgusting liar and I hate {text(i)}") for i in range(24)],
    "refused": [sampled(text(i), refused_by="copy_of_own" if i % 2 else None) for i in range(24)],
    "gibberish": [sampled(text(i), reference_logprob=-110.0, own_logprob=-105.0) for i in range(24)],
    "far from the reference": [sampled(text(i), own_logprob=-20.0, reference_logprob=-52.0) for i in range(24)],
    "endless": [sampled(text(i, 60), finished=False) for i in range(24)],
    "curt": [sampled(text(i, 1)[:7]) for i in range(24)],
    "symbols": [sampled("#$% 12 345 67 !! " + text(i, 1)[:9]) for i in range(24)],
    "not finite": [sampled(text(i), own_logprob=float("nan")) for i in range(24)],
}


@pytest.mark.parametrize("kind", SABOTAGED)
def test_sabotaged_texts_are_refused_with_a_reason(kind):
    verdict = judge(DEMO, even(), measure(SABOTAGED[kind]), good())
    assert not verdict.passed
    assert verdict.reasons
    assert all(any(char.isdigit() for char in reason) or "finite" in reason for reason in verdict.reasons)


def test_sound_candidates_pass():
    for start in range(0, 240, 24):
        verdict = judge(PRODUCTION, even(), good(start + 1000), good(start))
        assert verdict.passed, verdict.reasons
        assert verdict.reasons == []
    assert "not clearly worse" in verdict.numbers["meaning"]
    assert "demo profile" in judge(DEMO, even(), good(), good()).numbers["meaning"]


def test_margin_and_floor():
    worse = Estimate(300, 200.0, 2.0, -0.1, -0.3, 0.1, -0.1, math.inf)  # lower bound −15 %
    assert not judge(PRODUCTION, worse, good(), good()).passed
    assert judge(DEMO, worse, good(), good()).passed
    few = Estimate(100, 59.0, 2.0, 0.0, 0.0, 0.0, 0.0, math.inf)
    assert not judge(PRODUCTION, few, good(), good()).passed
    broken = Estimate(100, float("nan"), 2.0, 0.0, 0.0, 0.0, 0.0, math.inf)
    assert "not finite" in judge(DEMO, broken, good(), good()).reasons[0]
    nothing = Estimate(100, 90.0, 0.0, 0.0, 0.0, 0.0, 0.0, math.inf)
    assert judge(PRODUCTION, nothing, good(), good()).passed  # nobody liked anything: nothing is lost
    assert refuse(DEMO, "damaged").reasons == ["damaged"]


def test_measures_are_the_slow_ones():
    texts = ["a b c d e", "a b c d e", "f g h i j"]
    assert near_duplicates(texts) == pytest.approx(2 / 3)
    words = [t.split() for t in texts]
    pairs = [pair for row in words for pair in itertools.pairwise(row)]
    assert distinct(words, 2) == pytest.approx(len(set(pairs)) / len(pairs))
    found = measure([sampled("a b a b", tokens=4, own_logprob=-3.0, reference_logprob=-5.0)])
    assert found["repeated"] == pytest.approx(1 / 3)
    assert found["kl_to_reference"] == pytest.approx(0.5)
    assert found["reference_nll"] == pytest.approx(1.25)


def arms(n: int, lift: float, seed: int, level: float = 1.0) -> list[Outcome]:
    draw = np.random.default_rng(seed)
    canary = draw.random(n) < 0.5
    rewards = level + draw.normal(size=n) + lift * canary
    return [Outcome(bool(c), float(r)) for c, r in zip(canary, rewards, strict=True)]


def ruling(outcomes: list[Outcome], days: float = 1.0) -> Decision:
    return decide(outcomes, began=NOW, now=NOW + timedelta(days=days), longest=timedelta(days=7))


def test_canary_is_promoted_withdrawn_or_kept_waiting():
    assert ruling(arms(800, 0.6, 1)).ruling == Ruling.PROMOTE
    assert ruling(arms(800, -0.6, 1)).ruling == Ruling.WITHDRAW
    assert ruling(arms(800, 0.0, 1)).ruling == Ruling.CONTINUE
    assert ruling(arms(800, 0.0, 1), days=8).ruling == Ruling.PROMOTE
    assert ruling(arms(20, -9.0, 1)).ruling == Ruling.CONTINUE
    assert ruling([]).ruling == Ruling.CONTINUE


def test_effects_are_unbiased_and_free_of_the_common_level():
    effects = randomised_effects(arms(20_000, 0.3, 2, level=50.0), 0.5)
    assert effects[100:].mean() == pytest.approx(0.3, abs=0.06)
    assert effects[100:].std() == pytest.approx(2.0, abs=0.2)


def test_looking_after_every_post_seldom_misleads():
    """A fixed-time 90 % interval looked at 440 times would be left by about half of the walks."""
    left = 0
    for seed in range(60):
        effects = randomised_effects(arms(500, 0.0, seed), 0.5)
        left += any(abs(effects[:n].mean()) > half_width(effects[:n]) for n in range(60, 501))
    assert left / 60 <= 0.15


def test_baseline_is_out_of_fold():
    draw = np.random.default_rng(0)
    features, noise = draw.normal(size=(40, 14)), draw.normal(size=40)
    predicted = cross_fitted(features, noise)
    assert np.corrcoef(predicted, noise)[0, 1] < 0.3
    assert cross_fitted(features[:3], np.array([1.0, 2.0, 6.0])).tolist() == [4.0, 3.5, 1.5]
    assert cross_fitted(features[:1], np.array([5.0])).tolist() == [0.0]
    signal = features @ draw.normal(size=14)
    assert np.corrcoef(cross_fitted(features, signal), signal)[0, 1] > 0.9
