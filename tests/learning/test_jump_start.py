"""The jump start on the real model, within a quarter of an hour on two cores: what it learns, and what it forgets."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.config import ModelConfig, SFTConfig, VibeBotConfig
from app.context import BotContext
from app.data.files import Appender
from app.data.filters import reason_to_drop
from app.data.records import Record, SourcePost, encode, record_of
from app.learning.conversations import Conversations
from app.learning.fluency import perplexity
from app.learning.sft import run_sft
from app.policy import registry
from app.sandbox.community import TasteCommunity
from app.sandbox.communityfile import load
from dbs.session import Database
from dbs.states import RunState

pytestmark = [pytest.mark.proof, pytest.mark.timeout(3000)]

BEGINNING = datetime(2026, 1, 5, 6, tzinfo=UTC)
UNSEEN = "birds"  # a topic of the community that no post in the data set is on
POSTS, MINUTES = 3000, 15
MEASURED = 100


def records() -> tuple[list[Record], list[Record]]:
    """Posts of the shipped community as a data set has them, and those of the topic that is left out."""
    community, seen = TasteCommunity(load("default"), 1, "explorer"), {}
    known: list[Record] = []
    unseen: list[Record] = []
    for post in community.posts_until(BEGINNING, BEGINNING + timedelta(days=30)):
        seen[post.id] = post
        parent = seen.get(post.target) if post.kind == "reply" else None
        source = SourcePost(
            str(post.id), str(post.author), post.text, created_at=BEGINNING + timedelta(milliseconds=len(seen)),
            lang="en", reposted=post.kind == "repost", in_reply_to_post_id=str(parent.id) if parent else None,
            parent_text=parent.text if parent else None,
        )  # fmt: skip
        if reason_to_drop(source, ["en"]) is None:
            (unseen if UNSEEN in (post.topic, parent and parent.topic) else known).append(record_of(source))
        if len(known) == POSTS:
            return known, unseen
    raise AssertionError(f"the community wrote {len(known)} such posts in 30 days")


def test_the_community_is_learnt_and_english_is_not_forgotten(
    config: VibeBotConfig, packaged_model: Path, tmp_path: Path, database: Database
) -> None:
    model = ModelConfig(hf_repo_id=str(packaged_model), device="cpu", checkpoint_dir=str(tmp_path / "checkpoints"))
    config = config.model_copy(update={"model": model, "sft": SFTConfig(max_minutes=MINUTES)})
    BotContext(config, db=database).enrol()
    known, unseen = records()
    place = Path(config.data_dir) / "set"
    with Appender(place, [], 10_000_000) as appender:
        for record in known:
            appender.append(encode(record))
        entries = appender.sync()

    outcome = run_sft(config, database, place, entries)

    assert outcome.state is RunState.SUCCEEDED
    found = outcome.metrics | _on_the_unseen_topic(config, database, unseen)
    print(json.dumps({name: round(value, 4) for name, value in sorted(found.items())}, indent=1))
    for kind in ("held_out_author", "held_out_time", "topic"):
        assert found[f"perplexity_{kind}_change"] <= -0.15
    assert found["perplexity_general_change"] <= 0.05
    assert found["style_distance_after"] < found["style_distance_before"]
    assert 0 <= found["overlap_runs"] <= 1
    assert found["seconds"] <= MINUTES * 60 + 60


def _on_the_unseen_topic(config: VibeBotConfig, database: Database, posts: list[Record]) -> dict[str, float]:
    tokenizer = AutoTokenizer.from_pretrained(config.model.hf_repo_id)
    conversations = Conversations(tokenizer, config.persona, config.sft.max_length)
    examples = list(islice(conversations.examples(posts), MEASURED))
    base = AutoModelForCausalLM.from_pretrained(config.model.hf_repo_id, dtype=torch.bfloat16)
    before = perplexity(base, examples, tokenizer.eos_token_id)
    with database.transaction() as session:
        current = registry.current(session, config.bot_id)
        assert current is not None
        ((_, directory),) = registry.stack(config.model.checkpoint_dir, current)
    after = perplexity(PeftModel.from_pretrained(base, str(directory)), examples, tokenizer.eos_token_id)
    return {
        "perplexity_topic_before": before,
        "perplexity_topic_after": after,
        "perplexity_topic_change": after / before - 1,
    }
