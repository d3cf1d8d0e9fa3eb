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
from app.config import PersonaConfig, VibeBotConfig, load_config, load_secrets
from app.local.observer import Observer
from app.policy import registry
from app.policy.model import LanguageModel
from app.policy.prompts import Prompt, PromptBuilder, Said, Target
from app.policy.wording import INSTRUCTIONS
from app.safety import check_text
from dbs.models import Checkpoint
from dbs.session import Database
from dbs.states import Kind

EXAMPLES_PER_TOPIC = 8
DRAFTS_PER_PROMPT = 4
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
    """What a checkpoint's drafts would truly earn. The interval is 95 %, over prompts."""

    checkpoint_id: str
    kind: str
    engagement: float
    low: float
    high: float
    refused: float
    words: float
    kl: float | None


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
    """Writes with each checkpoint in turn and has every draft judged."""

    def __init__(self, config: VibeBotConfig, db: Database, observer: Observer) -> None:
        self._config, self._observer = config, observer
        self._model = LanguageModel(config.model)
        with db.transaction() as session:
            who = persona.as_config(persona.current(session, config.bot_id), adaptive=False)
            rows = session.scalars(
                select(Checkpoint)
                .where(Checkpoint.bot_id == config.bot_id, Checkpoint.promoted_at.is_not(None))
                .order_by(Checkpoint.promoted_at)
            ).all()
            self._checkpoints = [(row, registry.stack(config.model.checkpoint_dir, row)) for row in rows]
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
            by_prompt, refused, words = self._earned()
            earned[row.checkpoint_id] = by_prompt
            low, high = interval(by_prompt)
            kl = row.manifest.get("metrics", {}).get("objective/kl")
            points.append(
                Point(str(row.checkpoint_id), row.kind, float(by_prompt.mean()), low, high, refused, words, kl)
            )
        start, end = earned[self._checkpoints[0][0].checkpoint_id], earned[self._current_id]
        lift, ci95 = relative_lift(start, end)
        return {"lift": lift, "lift_ci95": ci95, "curve": [asdict(point) for point in points]}

    def _earned(self) -> tuple[np.ndarray, float, float]:
        """True engagement by prompt (the mean of its drafts), the share refused, the mean number of words."""
        asked = [item for item in self._asked for _ in range(DRAFTS_PER_PROMPT)]
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
        truths = iter(self._observer.post("truth", bodies))
        values = [next(truths)["engagement"] if text is not None else 0.0 for text in said]
        words = [len(text.split()) for text in said if text is not None]
        by_prompt = np.asarray(values).reshape(len(self._asked), DRAFTS_PER_PROMPT).mean(axis=1)
        return by_prompt, sum(text is None for text in said) / len(said), float(np.mean(words)) if words else 0.0

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


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of a mean."""
    chance = np.random.default_rng(SEED)
    means = chance.choice(values, size=(BOOTSTRAPS, len(values))).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def relative_lift(start: np.ndarray, end: np.ndarray) -> tuple[float, list[float]]:
    """(mean of end / mean of start) − 1, and its 95 % interval over prompts, which are resampled in pairs.

    >>> relative_lift(np.array([1.0, 2.0]), np.array([1.5, 3.0]))[0]
    0.5
    """
    chance = np.random.default_rng(SEED)
    rows = chance.integers(len(start), size=(BOOTSTRAPS, len(start)))
    lifts = end[rows].mean(axis=1) / start[rows].mean(axis=1) - 1
    low, high = np.quantile(lifts, (0.025, 0.975))
    return float(end.mean() / start.mean() - 1), [float(low), float(high)]


def plot(curve: Sequence[dict[str, Any]], file: Path) -> None:
    """True engagement by checkpoint with its band, beside KL to the reference and length, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.6), constrained_layout=True)
    steps = range(len(curve))
    axes[0].fill_between(steps, [p["low"] for p in curve], [p["high"] for p in curve], alpha=0.2)
    axes[0].plot(steps, [p["engagement"] for p in curve], marker="o")
    axes[0].set(title="true expected engagement", ylabel="weighted events in 24 h", ylim=(0, None))
    axes[1].plot(steps, [p["kl"] or 0.0 for p in curve], marker="o", color="tab:orange")
    axes[1].set(title="KL to the reference", ylabel="nats per post", ylim=(0, None))
    axes[2].plot(steps, [p["words"] for p in curve], marker="o", color="tab:green")
    axes[2].set(title="length", ylabel="words", ylim=(0, None))
    for axis in axes:
        axis.set(xlabel="checkpoint", xticks=list(steps))
        axis.grid(alpha=0.3)
    figure.suptitle("Held-out topics; the band is 95 % over prompts")
    figure.savefig(file, dpi=130)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m app.local.lift", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON to write; the plot goes beside it")
    options = parser.parse_args()
    logs.configure("WARNING")
    secrets = load_secrets()
    db = Database(secrets.database_url.get_secret_value())
    try:
        result = Measurement(load_config(), db, Observer(secrets.x_base_url)).run()
    finally:
        db.close()
    options.out.write_text(json.dumps(result, indent=2))
    plot(result["curve"], options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
