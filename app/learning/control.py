"""The control arm of a proof: the same loop, with nothing in its rewards to learn from."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from app.learning.dataset import Logged


def shuffled(training: Sequence[Logged], seed: int) -> list[Logged]:
    """The same drafts, each with the reward of a draft drawn without replacement from the same run.

    The rewards keep their distribution, floors of refused drafts included, so that the two arms differ by nothing but
    whose reward it is.
    """
    rewards = [logged.sample.reward for logged in training]
    random.Random(seed).shuffle(rewards)
    return [
        replace(logged, sample=replace(logged.sample, reward=reward))
        for logged, reward in zip(training, rewards, strict=True)
    ]
