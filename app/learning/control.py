"""Other rewards than those that were earned: what a proof compares learning with."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from app.learning.dataset import Logged

# Gives the drafts of a run, told its seed, their rewards anew.
Relabel = Callable[[Sequence[Logged], int], list[Logged]]


def shuffled(training: Sequence[Logged], seed: int) -> list[Logged]:
    """The control arm, with nothing in its rewards to learn from.

    Each draft has the reward of a draft drawn without replacement from the same run. So rewards keep their
    distribution, floors of refused drafts included, and the arms differ by nothing but whose reward it is.
    """
    rewards = [logged.sample.reward for logged in training]
    random.Random(seed).shuffle(rewards)
    return [
        replace(logged, sample=replace(logged.sample, reward=reward))
        for logged, reward in zip(training, rewards, strict=True)
    ]
