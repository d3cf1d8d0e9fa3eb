"""What learning needs of one logged draft. Light: who only counts samples never imports torch."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from app.learning.features import Array

# Names of the two adapters in a model, and of the two authors that need no adapter of their own.
REFERENCE = "reference"
POLICY = "policy"


@dataclass(frozen=True)
class Sample:
    """One logged draft.

    `author` says whose output it is: `policy` (the weights that training starts from), `reference`, or any other name.
    `behaviour_logprobs` has one natural log-probability per output token, under the tempered and masked softmax, as
    sampled; `rescored` the same with the trainer's numerics, where an author that is neither was scored again.
    """

    draft_id: uuid.UUID
    prompt_ids: Sequence[int]
    output_ids: Sequence[int]
    behaviour_logprobs: Sequence[float]
    temperature: float
    reward: float
    features: Array
    author: str = POLICY
    rescored: Sequence[float] | None = None
