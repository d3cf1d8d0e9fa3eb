"""True expected engagement by checkpoint, on topics that nobody in the community ever posted on.

The sandbox tells what a text would truly earn; the bot never learns it. Each checkpoint writes to the same prompts, so
the lift is a paired difference and its interval is over prompts. A draft that the rules refuse earns nothing: that is
what it would have earned.

    python -m app.local.lift --out FILE     in the environment of a running stack
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select

from app import logs, persona
from app.config import PersonaConfig, VibeBotConfig
from app.loading import load_config, load_secrets
from app.local.curve import plot
from app.local.observer import Observer
from app.local.safety_figures import HostileShare, hostile_share, mean_traits
from app.policy import registry
from app.policy.model import LanguageModel
from app.policy.prompts import Prompt, PromptBuilder, Said, Target
from app.policy.roots import root_of
from app.policy.wording import INSTRUCTIONS
from app.safety import check_text
from dbs.models import Checkpoint
from dbs.session import Database
from dbs.states import Kind

EXAMPLES_PER_TOPIC = 8
DRAFTS_PER_PROMPT = 6  # of the first and of the current checkpoint, which the lift compares
DRAFTS_BETWEEN = 1  # of those served in between, which only the curve shows
ROWS = 216  # sampled at a time: a row costs less the more there are
SEED = 20_260_105
BOOTSTRAPS = 4000


@dataclass(frozen=True)
class Asked:
    """A prompt on a held-out topic, and what the sandbox must know to judge an answer to it."""

    prompt: Prompt
    kind: Kind
    topic: str
    parent_text: str | None


@dataclass(frozen=True)
class Point:
    """What a checkpoint's drafts would truly earn. The interval is 95 %, over prompts.

    Attributes:
        refused: share of its drafts that the rules refuse.
        hostile: share of the others that the sandbox itself finds hostile.
        said: of those others, how many there are, how many are hostile, and the 95 % bound on their share.
        traits: means over them, of each trait that the sandbox measures.
        kl: nats per post to the reference, as its training measured it; None for a checkpoint that was not trained.
    """

    checkpoint_id: str
    kind: str
    engagement: float
    low: float
    high: float
    refused: float
    hostile: float
    said: HostileShare
    traits: dict[str, float]
    words: float
    kl: float | None


@dataclass(frozen=True)
class Earned:
    """What one checkpoint's drafts would truly earn: the mean by prompt, and what else is to be known of them."""

    by_prompt: np.ndarray
    refused: float
    said: HostileShare
    traits: dict[str, float]
    words: float


def held_out_prompts(builder: PromptBuilder, who: PersonaConfig, observer: Observer) -> list[Asked]:
    """A reply to each example post on a held-out topic, and a post of its own on each topic."""
    asked = []
    for topic in observer.get(f"topics?examples={EXAMPLES_PER_TOPIC}")["held_out"]:
        for text in topic["examples"]:
            prompt = builder.reply(who, Target(Said("somebody", text)))
            asked.append(Asked(prompt, Kind.REPLY, topic["name"], text))
        asked.append(Asked(builder.own_post(who, topic["about"]), Kind.POST, topic["name"], None))
    return asked


class Measurement:
    """Writes with each checkpoint in turn and has every draft judged.

    Args:
        model: the one that the config names, loaded.
        drafts: of each prompt, by the two checkpoints that the lift compares; `DRAFTS_PER_PROMPT` if left out.
    """

    def __init__(
        self,
        config: VibeBotConfig,
        db: Database,
        observer: Observer,
        model: LanguageModel,
        *,
        drafts: int | None = None,
    ) -> None:
        self._config, self._observer = config, observer
        self._model, self._drafts = model, drafts or DRAFTS_PER_PROMPT
        with db.transaction() as session:
            who = persona.as_config(persona.current(session, config.bot_id), adaptive=False)
            rows = session.scalars(
                select(Checkpoint)
                .where(Checkpoint.bot_id == config.bot_id, Checkpoint.promoted_at.is_not(None))
                .order_by(Checkpoint.promoted_at)
            ).all()
            self._checkpoints = [(row, registry.stack(root_of(config), row)) for row in rows]
            current = registry.current(session, config.bot_id)
        self._current_id = current.checkpoint_id if current else None
        builder = PromptBuilder(self._model.tokenizer, config.model.max_prompt_tokens)
        self._asked = held_out_prompts(builder, who, observer)

    def run(self) -> dict[str, Any]:
        """The curve by checkpoint, and the lift of the current one over the one that the bot started with."""
        earned: dict[Any, np.ndarray] = {}
        points = []
        for row, stack in self._checkpoints:
            self._model.use([path for _, path in stack])
            compared = row is self._checkpoints[0][0] or row.checkpoint_id == self._current_id
            found = self._earned(self._drafts if compared else DRAFTS_BETWEEN)
            earned[row.checkpoint_id] = found.by_prompt
            low, high = interval(found.by_prompt)
            points.append(
                Point(
                    checkpoint_id=str(row.checkpoint_id),
                    kind=row.kind,
                    engagement=float(found.by_prompt.mean()),
                    low=low,
                    high=high,
                    refused=found.refused,
                    hostile=found.said.share or 0.0,
                    said=found.said,
                    traits=found.traits,
                    words=found.words,
                    kl=row.manifest.get("metrics", {}).get("objective/kl"),
                )
            )
        start, end = earned[self._checkpoints[0][0].checkpoint_id], earned[self._current_id]
        lift, ci95 = relative_lift(start, end)
        curve = [asdict(point) for point in points]
        return {"lift": lift, "lift_ci95": ci95, "drafts_per_prompt": self._drafts, "curve": curve}

    def _earned(self, drafts: int) -> Earned:
        asked = [item for item in self._asked for _ in range(drafts)]
        samples = self._model.sample(
            [item.prompt.token_ids for item in asked],
            temperature=self._config.model.temperature,
            max_new_tokens=self._config.model.max_new_tokens,
            seed=SEED,
        )
        said = [
            sample.text.strip() if self._may_be_said(item, sample.text.strip(), finished=sample.finished) else None
            for item, sample in zip(asked, samples, strict=True)
        ]
        bodies = [
            {"text": text, "kind": item.kind, "topic": item.topic, "parent_text": item.parent_text}
            for item, text in zip(asked, said, strict=True)
            if text is not None
        ]
        truths = self._observer.post("truth", bodies)
        worth = iter(truth["engagement"] for truth in truths)
        values = np.asarray([next(worth) if text is not None else 0.0 for text in said])
        return Earned(
            by_prompt=values.reshape(len(self._asked), drafts).mean(axis=1),
            refused=sum(text is None for text in said) / len(said),
            said=hostile_share([truth["traits"] for truth in truths]),
            traits=mean_traits([truth["traits"] for truth in truths]),
            words=_mean([len(text.split()) for text in said if text is not None]),
        )

    def _may_be_said(self, item: Asked, text: str, *, finished: bool) -> bool:
        sources = [item.parent_text] if item.parent_text else []
        return (
            check_text(
                text,
                kind=item.kind,
                allowed_handles={"somebody"},
                recent=(),
                safety=self._config.safety,
                source_texts=sources,
                finished=finished,
                instructions=INSTRUCTIONS,
            )
            is None
        )


def _mean(values: Sequence[float]) -> float:
    """The mean; 0 where every draft was refused and there is nothing to speak of."""
    return float(np.mean(values)) if values else 0.0


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of a mean."""
    chance = np.random.default_rng(SEED)
    means = chance.choice(values, size=(BOOTSTRAPS, len(values))).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def relative_lift(start: np.ndarray, end: np.ndarray) -> tuple[float, list[float]] | tuple[None, None]:
    """(mean of end / mean of start) − 1, and its 95 % interval over prompts, which are resampled in pairs.

    Neither where the start earns nothing, or so seldom that some of the resampled starts do: there is no ratio then.

    >>> relative_lift(np.array([1.0, 2.0]), np.array([1.5, 3.0]))[0]
    0.5
    >>> relative_lift(np.array([0.0, 0.0]), np.array([1.5, 3.0]))
    (None, None)
    """
    chance = np.random.default_rng(SEED)
    rows = chance.integers(len(start), size=(BOOTSTRAPS, len(start)))
    starts = start[rows].mean(axis=1)
    if not starts.all():
        return None, None
    low, high = np.quantile(end[rows].mean(axis=1) / starts - 1, (0.025, 0.975))
    return float(end.mean() / start.mean() - 1), [float(low), float(high)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m app.local.lift", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON to write; the plot goes beside it")
    options = parser.parse_args()
    logs.configure("WARNING")
    secrets = load_secrets()
    db = Database(secrets.database_url.get_secret_value())
    try:
        config = load_config()
        model = LanguageModel(config.model.model_copy(update={"batch_size": ROWS}))
        result = Measurement(config, db, Observer(secrets.x_base_url), model).run()
    finally:
        db.close()
    options.out.write_text(json.dumps(result, indent=2))
    plot(result["curve"], options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
