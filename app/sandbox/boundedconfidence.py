"""The second mechanism: people react to what is near their own opinion, and pass it on to who follows them.

Where `TasteCommunity` likes a text the more, the more of its taste it has, here each account has an opinion, a text a
position, and an account is active where the two are close (bounded confidence: Deffuant et al. 2000, Hegselmann and
Krause 2002). What active members repost reaches their followers, who are active by the same rule, and so on along the
graph. So more of a trait pays only as far as there are people that far out, and a text can overshoot. A lift that shows
under both mechanisms is not an artefact of one.

Exposure is worked out as a mean and not by chance, so that the truth of a draft is exactly the mean of what happens.
"""

from __future__ import annotations

from math import tanh

import numpy as np

from app.sandbox.chance import Floats, key, normals
from app.sandbox.community import TasteCommunity
from app.sandbox.communityfile import CommunityFile, CommunityFileError

GENERATIONS = 4  # of reposts; at a spreading of 0.5 all later ones together are a fifteenth of the first


class BoundedConfidenceCommunity(TasteCommunity):
    """The same people, texts, fluency, fatigue and hostility, with another way from a text to who reacts.

    Raises:
        CommunityFileError: nobody's opinion is near an ordinary text.
    """

    def __init__(self, file: CommunityFile, seed: int, bot_handle: str) -> None:
        super().__init__(file, seed, bot_handle)
        opinion = file.opinion
        drawn = normals(key(seed, "opinion"), self.people.ids)
        self.opinions: Floats = np.clip(opinion.mean + opinion.spread * drawn, -1.0, 1.0)
        follows = self.people.follows.astype(np.float64)
        # An active member passes on `spreading` of what reached it, shared out among its followers.
        self._passed_on: Floats = opinion.spreading * follows / np.maximum(1.0, follows.sum(axis=0))
        self._ordinary = float(self.reach(None, 0.0).sum())
        if not self._ordinary > 0:
            raise CommunityFileError(
                f"opinion: got {opinion}; nobody is near an ordinary text, at 0: bring `mean` nearer to 0, or raise "
                "`spread` or `confidence`"
            )

    def _liking(self, lean: float, topic: str | None) -> float:
        return float(self.reach(topic, lean).sum()) / self._ordinary

    def _appetite(self, topic: str | None, lean: float) -> Floats:
        reach = self.reach(topic, lean)
        total = reach.sum()
        if not total > 0:  # nobody is near; the liking is 0 then, and shares are of nothing
            return self.people.appetite(topic)
        shares: Floats = reach / total
        return shares

    def closeness(self, lean: float) -> Floats:
        """How active each account is on a text, 0 to 1: a smooth edge, so that the truth has no steps.

        The position of a text is tanh(lean / 2), between -1 and 1; 0 for an ordinary draft.
        """
        distance = (tanh(lean / 2.0) - self.opinions) / self.file.opinion.confidence
        near: Floats = np.exp(-0.5 * distance**2)
        return near

    def reach(self, topic: str | None, lean: float) -> Floats:
        """Activity of each account per unit of exposure of the text, by all the ways on which it arrives."""
        members = len(self.people.members)
        close = self.closeness(lean)
        arriving = self.people.appetite(topic)
        reached = arriving.copy()
        for _ in range(GENERATIONS):
            arriving = self._passed_on @ (close * arriving)[:members]
            reached += arriving
        return reached * close
