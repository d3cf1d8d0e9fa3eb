"""What deserves an answer: the seed's two criteria by the log-odds of Yes, and who is selected by them.

Judging is done by the frozen reference, not by the weights in training: otherwise the contexts would move with the
policy, and its writing would get the credit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.policy.model import LanguageModel
from app.policy.prompts import PromptBuilder
from app.policy.wording import CRITERIA, PROMPT_VERSION

JUDGE_VERSION = "1"  # of this module; `Judge.version` adds the prompts' and the weights'
CONTENT_FREE = ("N/A", "[MASK]", "")  # the three inputs of Zhao et al. 2021
FEWEST_SCORES = 5  # below this the quantile of a share of 0.2 says nothing


@dataclass(frozen=True)
class Scores:
    """Calibrated log-odds of Yes to each criterion, and both as one number; higher is worthier."""

    newsworthy: float
    substantive: float

    @property
    def score(self) -> float:
        """The mean of the two log-odds.

        The seed names the criteria side by side as what makes a candidate good. Their mean is the logarithmic pool of
        two noisy readings of that: a post strong in one and neutral in the other still passes. Taking the larger one
        instead lets the noise of either criterion select: AUC 0.92 against 0.95 on the posts of test_packaged.py.
        """
        return (self.newsworthy + self.substantive) / 2


@dataclass(frozen=True)
class Selection:
    """Whether a post is to be answered, the chance that it had, and by what: score, exploration or none."""

    selected: bool
    chance: float
    by: str


class Judge:
    """Judges posts with whatever adapters are active on a model; the caller makes that the reference.

    Args:
        reference: names the reference's weights in the version; scores compare within a version only.
    """

    def __init__(self, model: LanguageModel, prompts: PromptBuilder, reference: str) -> None:
        self._model = model
        self._prompts = prompts
        self.version = f"{JUDGE_VERSION}/{PROMPT_VERSION}/{model.base_hash[:8]}/{reference[:8]}"
        self._bias: dict[str, float] = {}

    def judge(self, texts: Sequence[str]) -> list[Scores]:
        """One forward pass per criterion over all texts."""
        newsworthy, substantive = (self._calibrated(criterion, texts) for criterion in CRITERIA)
        return [Scores(a, b) for a, b in zip(newsworthy, substantive, strict=True)]

    def _calibrated(self, criterion: str, texts: Sequence[str]) -> list[float]:
        """Contextual calibration (Zhao et al. 2021, arXiv 2102.09690): for two answers, dividing by what the model says
        to inputs without content is subtracting the log-odds of their mean probability.
        """
        if criterion not in self._bias:
            self._bias[criterion] = mean_log_odds(self._log_odds(criterion, CONTENT_FREE))
        return [odds - self._bias[criterion] for odds in self._log_odds(criterion, texts)]

    def _log_odds(self, criterion: str, texts: Sequence[str]) -> list[float]:
        return self._model.log_odds([self._prompts.judgement(criterion, text).token_ids for text in texts])


def mean_log_odds(log_odds: Sequence[float]) -> float:
    """Log-odds of the mean of the probabilities that have these log-odds."""
    mean = sum(1 / (1 + math.exp(-odds)) for odds in log_odds) / len(log_odds)
    return math.log(mean / (1 - mean))


def threshold(scores: Sequence[float], share: float) -> float:
    """The score above which the best `share` of recent scores lie; infinity while there are too few to say."""
    if share >= 1:
        return -math.inf
    if len(scores) < FEWEST_SCORES:
        return math.inf
    return float(np.quantile(np.asarray(scores), 1 - share))


def select(score: float, limit: float, *, exploration: float, roll: float) -> Selection:
    """Decide whether a post is answered.

    Args:
        limit: scores above it are selected for certain.
        exploration: the chance of any other post.
        roll: a number drawn from [0, 1), which decides for those.
    """
    if score > limit:
        return Selection(True, 1.0, "score")
    return Selection(roll < exploration, exploration, "exploration" if roll < exploration else "none")
