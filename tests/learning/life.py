"""A bot with a tiny model that lives: it writes, is liked for certain tokens, and may be asked what that is worth."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from sqlalchemy import select

from app import clock
from app.config import VibeBotConfig
from app.learning.trainer import run_ppo
from app.loading import parse_config
from app.policy import registry
from app.policy.model import LanguageModel
from dbs.models import TrainingRun
from dbs.session import Database
from dbs.states import Arm, DraftState
from tests.learning.world import BOT, World

PREFIX = list(range(40, 70))
LIKED = range(100, 180)


def questions(n: int, draw: random.Random) -> list[list[int]]:
    """Prompts of one persona and n targets."""
    return [[*PREFIX, *(draw.randrange(70, 300) for _ in range(6))] for _ in range(n)]


def worth(token_ids: Sequence[int]) -> float:
    """The likes that a text can expect: the truth, which the bot never sees."""
    return 0.5 + sum(token in LIKED for token in token_ids)


def live(world: World, settings: VibeBotConfig, n: int, *, seed: int = 0, arm: Arm = Arm.INCUMBENT) -> list[uuid.UUID]:
    """The bot writes n posts with what is current, and all of them are measured."""
    model = LanguageModel(settings.model)
    with world.database.transaction() as session:
        row = registry.canary(session, BOT) if arm == Arm.CANARY else registry.current(session, BOT)
        model.use([path for _, path in registry.stack(settings.model.checkpoint_dir, row)])
    draw = random.Random(seed)
    prompts = questions(n, draw)
    written = model.sample(prompts, temperature=0.7, max_new_tokens=12, seed=seed)
    likes = np.random.default_rng(seed)
    ids = []
    for i, (prompt, sample) in enumerate(zip(prompts, written, strict=True)):
        logged = {
            "prompt_token_ids": prompt, "output_token_ids": sample.token_ids, "logprobs": sample.logprobs,
        }  # fmt: skip
        facts = {
            "checkpoint_id": row.checkpoint_id,
            "arm": arm,
            "created_at": clock.now() - timedelta(hours=25 + i % 5),
        }
        facts["draft_id"] = uuid.UUID(int=draw.getrandbits(128), version=4)  # what is held out hangs on it
        if i % 10 == 9:
            ids.append(world.draft(sample=logged, state=DraftState.REJECTED, reject_rule="unfinished", **facts))
            continue
        ids.append(world.draft(sample=logged, **facts))
        world.post(ids[-1], likes=int(likes.poisson(worth(sample.token_ids))))
    return ids


def with_ppo(settings: VibeBotConfig, **changes) -> VibeBotConfig:
    return settings.model_copy(update={"ppo": settings.ppo.model_copy(update=changes)})


def true_value(settings: VibeBotConfig, world: World, checkpoint_id: uuid.UUID, *, n: int = 300) -> float:
    """What a text of a checkpoint is worth on average, on prompts that nobody posted to."""
    model = LanguageModel(settings.model)
    model.use([path for _, path in registry.stack(settings.model.checkpoint_dir, world.checkpoint(checkpoint_id))])
    texts = model.sample(questions(n, random.Random(-1)), temperature=0.7, max_new_tokens=12, seed=99)
    return float(np.mean([worth(text.token_ids) for text in texts]))


def run_rows(world: World) -> list[TrainingRun]:
    with world.database.transaction() as session:
        return list(session.scalars(select(TrainingRun).order_by(TrainingRun.started_at)))


def current(world: World) -> uuid.UUID:
    with world.database.transaction() as session:
        return registry.current(session, BOT).checkpoint_id


def learn(settings: dict[str, Any], database_url: str) -> None:
    """A turn of learning in a process of its own, which a test may kill."""
    torch.set_num_threads(1)
    run_ppo(parse_config(settings), Database(database_url))
