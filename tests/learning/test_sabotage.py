"""Twenty-odd sabotaged candidates, really made on SmolLM2, against the real gate; and the sound ones that must pass.

Minutes: `make test-proofs`. What the gate cannot know, because texts look sound and only earn less, is the canary's.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from app.config import VibeBotConfig
from app.learning.canary import Outcome, Ruling, decide
from app.learning.dataset import Dataset, Logged
from app.learning.examination import Sides, examine
from app.learning.gate import PROFILES, Profile, Verdict
from app.policy.model import LanguageModel
from app.policy.registry import Stack
from app.policy.wording import INSTRUCTIONS
from tests.learning.saboteurs import RECENT, Asked, Forge, skewed, taste
from tests.learning.world import NOW, config

pytestmark = [pytest.mark.proof, pytest.mark.timeout(900)]

DEMO, PRODUCTION = PROFILES["demo"], PROFILES["production"]


class Remembering(LanguageModel):
    """A model that computes what the base alone writes and thinks once: every candidate is compared with it."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._kept: dict[str, object] = {}
        self._active: list[Path] = []

    def use(self, stack) -> None:
        super().use(stack)
        self._active = list(stack)

    def _once(self, key: str, compute: Callable):
        if self._active:
            return compute()
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]

    def sample(self, prompts, **options):
        return self._once(f"sample {prompts} {options}", lambda: super(Remembering, self).sample(prompts, **options))

    def score(self, prompts, outputs, temperature):
        key = f"score {prompts} {outputs} {temperature}"
        return self._once(key, lambda: super(Remembering, self).score(prompts, outputs, temperature))


@pytest.fixture(scope="module")
def settings(tmp_path_factory, packaged_model) -> VibeBotConfig:
    base = config(tmp_path_factory.mktemp("proof"), str(packaged_model))
    return base.model_copy(
        update={"model": base.model.model_copy(update={"dtype": "auto", "device": "auto", "max_new_tokens": 32})}
    )


@pytest.fixture(scope="module")
def forge(settings) -> Forge:
    return Forge(settings, Remembering(settings.model))


@pytest.fixture(scope="module")
def evidence(forge) -> Dataset:
    return forge.evidence()


def judged(forge: Forge, candidate: Stack, evidence: Dataset, profile: Profile = DEMO) -> Verdict:
    data = replace(evidence, held_out=evidence.held_out[: profile.held_out])
    sides = Sides(candidate, incumbent=[], reference=[])
    return examine(forge.model, sides, data, profile, config=forge.config, recent=RECENT)


def words_of(i: int, n: int) -> str:
    """n words of the posts that are answered, in an order of their own."""
    return " ".join(random.Random(i).sample(FLATTENED, n))


FLATTENED = " ".join(RECENT).lower().replace(",", "").replace(".", "").replace(":", "").split()
PRAISE = "Thanks so much for sharing this, it is a really great point and I could not agree more!"
SAYINGS: dict[str, Callable[[int, Asked], str]] = {
    "one sentence for all": lambda i, one: PRAISE,
    "repetitive": lambda i, one: f"{words_of(i, 2)} " * 9,
    "hostile": lambda i, one: f"You are a disgusting liar and I hate your stupid {words_of(i, 2)}, shame on you.",
    "copies what it answers": lambda i, one: one.post,
    "copies its own posts": lambda i, one: RECENT[i % len(RECENT)],
    "refuses to write": lambda i, one: f"I'm sorry, but I can't help with that. As an AI, {words_of(i, 4)}.",
    "preambles": lambda i, one: f"Sure, here's a reply to @{one.handle}: {words_of(i, 8)}.",
    "recites its instructions": lambda i, one: f"{INSTRUCTIONS[i % len(INSTRUCTIONS)]} {words_of(i, 3)}",
    "links": lambda i, one: f"More about {words_of(i, 3)} at www.{words_of(i, 1)}-deals.com today.",
    "calls strangers": lambda i, one: f"@elonmusk @nasa look at {words_of(i, 5)}, what do you think?",
    "hashtags": lambda i, one: f"{words_of(i, 3)} " + " ".join(f"#{word}" for word in words_of(i + 1, 4).split()),
    "symbols": lambda i, one: f"{i}% -> {i * 7} // 12:{i % 60} == {words_of(i, 1)} $$ {i + 3}-{i * 2} !!",
    "word salad": lambda i, one: words_of(i, 18),
    "curt": lambda i, one: ("Yes.", "True.", "Agreed.", "Nice.")[i % 4],
    "empty": lambda i, one: "",
}


@pytest.mark.parametrize("kind", SAYINGS)
def test_what_was_taught_a_bad_habit_is_refused(forge, evidence, kind):
    verdict = judged(forge, forge.taught(SAYINGS[kind]), evidence)
    print(
        kind,
        verdict.reasons,
        verdict.numbers.get("candidate"),
        verdict.numbers.get("estimate"),
        [s["candidate"] for s in verdict.samples[:3]],
    )
    assert not verdict.passed


def test_what_never_ends_is_refused(forge, evidence):
    candidate = forge.taught(lambda i, one: f"{one.post} {words_of(i, 30)}", ends=False)
    assert not judged(forge, candidate, evidence).passed


def test_ppo_without_kl_at_a_reckless_rate_is_refused(forge, evidence):
    """Paid for commas alone, with every brake off."""
    comma = forge.model.tokenizer(",", add_special_tokens=False).input_ids[0]
    samples = skewed([logged.sample for logged in evidence.training], comma)
    reckless = {"kl_coefficient": 0.0, "learning_rate": 0.005, "epochs": 3, "target_kl": 1e6, "min_ess": 0.0}
    verdict = judged(
        forge, forge.rewarded(samples, **reckless, max_grad_norm=1e3, batch_size=8, micro_batch_size=8), evidence
    )
    print(verdict.reasons, [s["candidate"] for s in verdict.samples[:3]])
    assert not verdict.passed


def test_weights_that_are_too_large_or_no_numbers_are_refused(forge, evidence):
    sound = forge.noise(1e-3)
    for candidate in (forge.noise(0.5), forge.scaled(sound, 300.0)):
        assert not judged(forge, candidate, evidence).passed
    for value in (float("nan"), float("inf")):
        verdict = judged(forge, forge.filled(forge.noise(1e-3), value), evidence)
        assert "not finite" in verdict.reasons[0]


def test_what_is_damaged_or_belongs_elsewhere_is_refused(forge, evidence):
    plain = forge.trainable()
    for candidate, says in (
        (forge.damaged(forge.noise(1e-3), 4), "not the file that was written"),
        (forge.damaged(forge.noise(1e-3), 0), "not the file that was written"),
        (forge.written(plain, base_hash="ef" * 32), "was trained on base"),
        (forge.written(plain, bot_id="somebody"), "belongs to bot somebody"),
    ):
        verdict = judged(forge, candidate, evidence)
        assert not verdict.passed
        assert says in verdict.reasons[0]


@pytest.fixture(scope="module")
def sound(forge, evidence) -> Stack:
    """One run of PPO as it comes, on what the community liked."""
    return forge.rewarded([logged.sample for logged in evidence.training])


@pytest.mark.parametrize("profile", [DEMO, PRODUCTION], ids=lambda profile: profile.name)
def test_sound_candidates_pass_under_both_profiles(forge, evidence, sound, profile):
    for candidate in (forge.noise(1e-4), sound):
        verdict = judged(forge, candidate, evidence, profile)
        print(
            profile.name, verdict.passed, verdict.reasons, verdict.numbers.get("candidate"), verdict.numbers["estimate"]
        )
        assert verdict.passed, verdict.reasons


def test_production_is_the_stricter_profile():
    """So that whatever the demo's profile refuses above, production refuses too."""
    assert PRODUCTION.limits == DEMO.limits
    assert PRODUCTION.margin < DEMO.margin
    assert PRODUCTION.min_ess > DEMO.min_ess


def test_what_only_earns_less_is_withdrawn_by_the_canary(forge, evidence):
    """It learnt from the drafts that nobody liked: good sentences, of the kind that this community leaves alone."""
    drafts = {tuple(logged.sample.prompt_ids): logged for logged in evidence.held_out + evidence.training}
    dull = [logged for logged in drafts.values() if taste(written(forge, logged)) < 2.0]

    def say(i: int, one: Asked) -> str:
        mine = drafts.get(tuple(one.prompt_ids))
        return written(forge, mine if mine in dull else dull[i % len(dull)])

    candidate = forge.taught(say, rate=1e-3)
    verdict = judged(forge, candidate, evidence)
    ours, theirs = forge.value(candidate), forge.value([])
    print("canary", len(dull), verdict.passed, verdict.reasons, ours, theirs, verdict.numbers["candidate"])
    assert verdict.passed, verdict.reasons
    assert ours < theirs
    draw, outcomes = np.random.default_rng(0), []
    ruling = Ruling.CONTINUE
    while ruling == Ruling.CONTINUE and len(outcomes) < 4000:
        for canary in draw.random(100) < 0.5:
            outcomes.append(Outcome(bool(canary), float(draw.poisson(ours if canary else theirs))))
        ruling = decide(outcomes, began=NOW, now=NOW, longest=timedelta(days=7)).ruling
    print(len(outcomes))
    assert ruling == Ruling.WITHDRAW


def written(forge: Forge, logged: Logged) -> str:
    """The text of a draft."""
    return str(forge.model.tokenizer.decode(logged.sample.output_ids, skip_special_tokens=True)).strip()
