"""Whether a taste can be learnt: what the default community likes, the untrained model does now and then.

In 10 to 90 % of its drafts. Warmth, the rarest, is in 13 % of them: three draws of 144 gave 10, 16 and 16 %, three of
288 gave 12 to 14 %.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.config import ModelConfig, PersonaConfig
from app.local.sandboxed import sandbox_config
from app.policy.model import LanguageModel
from app.policy.prompts import PromptBuilder, Said, Target
from app.sandbox.community import TasteCommunity
from app.sandbox.communityfile import load
from app.sandbox.traits import Subject, measure

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DRAFTS_PER_TOPIC = 30
OCCURS = 0.3  # of a trait's 0 to 1: one word of a lexicon brings 0.48 or more
FORM = {"brevity", "finished", "hashtags", "exclamation"}  # what a community of form alone would like


def test_each_liked_trait_occurs_in_some_drafts_of_the_untrained_model(packaged_model: Path, tmp_path: Path) -> None:
    community = TasteCommunity(load("default"), 1, "explorer_bot")
    liked = {name for name, weight in community.file.taste.weights.items() if weight > 0}
    assert len(liked - FORM) >= 4
    settings = sandbox_config(tmp_path, packaged_model)
    model = LanguageModel(ModelConfig.model_validate(settings["model"]))
    builder = PromptBuilder(model.tokenizer, 1024)
    persona = PersonaConfig.model_validate(settings["persona"])
    asked = [
        (topic["name"], text) for topic in community.topics(DRAFTS_PER_TOPIC)["training"] for text in topic["examples"]
    ]
    prompts = [builder.reply(persona, Target(Said("somebody", text))).token_ids for _, text in asked]
    drafts = model.sample(prompts, temperature=0.7, max_new_tokens=60, seed=1)
    found = [
        measure(draft.text, Subject(text, community.texts.vocabulary[topic]), "en")
        for (topic, text), draft in zip(asked, drafts, strict=True)
    ]
    shares = {name: float(np.mean([traits[name] >= OCCURS for traits in found])) for name in liked}
    assert all(0.1 <= share <= 0.9 for share in shares.values()), shares
