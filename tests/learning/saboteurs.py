"""Candidates that are really made, good and bad: adapters fine-tuned, PPO-trained, scaled, broken, forged."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from policy.test_packaged import PERSONA, WORTHY
from safetensors.torch import save_file

from app import clock
from app.config import VibeBotConfig
from app.learning.dataset import Dataset, Logged
from app.learning.features import NAMES
from app.learning.forward import Reader
from app.learning.ppo import train
from app.learning.samples import POLICY, REFERENCE, Sample
from app.learning.scoring import acting_as, output_logprobs, policy_stack
from app.learning.trainable import Trainable
from app.policy import checkpoints
from app.policy.checkpoints import ADAPTER_WEIGHTS, AdapterRef, Manifest
from app.policy.model import LanguageModel
from app.policy.prefixes import common_prefix
from app.policy.prompts import PromptBuilder, Said, Target
from app.policy.registry import Stack
from dbs.states import CheckpointKind, Kind
from tests.learning.world import BOT

HELD_OUT, LOGGED = 120, 40
HANDLES = ("ada", "bo", "cy", "dee", "eli", "fay", "gus", "hal", "ivy", "jo", "kim", "lou")
RECENT = (
    "The quiet part of every transit plan is who has to walk further once the stops are merged.",
    "A telescope is a time machine that only ever shows you the past, and that is enough for most evenings.",
    "Batteries got cheap the way bread did: slowly, then in every shop on the street at once.",
    "Open source runs on the evenings of people who never meet, and it mostly works because they write things down.",
)


@dataclass(frozen=True)
class Asked:
    """A prompt with the post that it answers."""

    post: str
    handle: str
    prompt_ids: list[int]


def taste(text: str) -> float:
    """Likes that a text can expect of a community that likes questions and figures; it takes no noise for a post."""
    words = text.split()
    if len(words) < 4:
        return 0.1
    return 0.6 + 2.0 * ("?" in text) + 0.8 * any(char.isdigit() for char in text) + min(len(words), 30) / 30


class Forge:
    """Makes candidates on one base model, and the evidence that the gate judges them by."""

    def __init__(self, config: VibeBotConfig, model: LanguageModel) -> None:
        self.config, self.model = config, model
        self.prompts = PromptBuilder(model.tokenizer, config.model.max_prompt_tokens)

    def asked(self, n: int, first: int = 0) -> list[Asked]:
        """The first n pairs of a post and somebody who posted it."""
        found = []
        for i in range(first, first + n):
            post, handle = WORTHY[i % len(WORTHY)], HANDLES[i // len(WORTHY) % len(HANDLES)]
            found.append(Asked(post, handle, self.prompts.reply(PERSONA, Target(Said(handle, post))).token_ids))
        return found

    def evidence(self) -> Dataset:
        """What the base wrote and what it earned: drafts to learn from, and drafts held out for the gate."""
        draw = np.random.default_rng(0)
        asked = self.asked(HELD_OUT + LOGGED)
        self.model.use([])
        written = self.model.sample(
            [one.prompt_ids for one in asked], temperature=0.7, max_new_tokens=self.config.model.max_new_tokens, seed=1
        )
        rows = []
        for one, text in zip(asked, written, strict=True):
            likes = float(draw.poisson(taste(text.text)))
            sample = Sample(
                draft_id=uuid.uuid4(),
                prompt_ids=one.prompt_ids,
                output_ids=text.token_ids,
                behaviour_logprobs=text.logprobs,
                temperature=0.7,
                reward=likes - 2.0,
                features=np.zeros(len(NAMES)),
                author=REFERENCE,
            )
            rows.append(
                Logged(
                    sample=sample,
                    author_id=uuid.UUID(int=0),
                    outcome=likes,
                    measured=True,
                    fresh=True,
                    kind=Kind.REPLY,
                    source_texts=(one.post,),
                    allowed_handles=frozenset({one.handle}),
                )
            )
        return Dataset(rows[HELD_OUT:], rows[:HELD_OUT], {uuid.UUID(int=0): []})

    def value(self, stack: Stack, n: int = 48) -> float:
        """The likes that a text of a candidate can expect on average: the truth, which the bot never sees."""
        self.model.use([path for _, path in stack])
        asked = [one.prompt_ids for one in self.asked(n, first=7)]
        texts = self.model.sample(asked, temperature=0.7, max_new_tokens=self.config.model.max_new_tokens, seed=77)
        return float(np.mean([taste(text.text) for text in texts]))

    def trainable(self) -> Trainable:
        return Trainable(self.config, [], seed=3)

    def taught(
        self, say: Callable[[int, Asked], str], *, ends: bool = True, steps: int = 8, rate: float = 5e-3
    ) -> Stack:
        """A candidate fine-tuned to say a thing to each post, by maximum likelihood."""
        trainable = self.trainable()
        optimizer = None
        for step in range(steps):
            batch = [
                self._target(one, say(i, one), ends=ends) for i, one in enumerate(self.asked(4, 4 * step), 4 * step)
            ]
            with acting_as(trainable.model, policy_stack(trainable.model), trainable=POLICY):
                parameters = [p for p in trainable.model.parameters() if p.requires_grad]
                optimizer = optimizer or torch.optim.AdamW(parameters, lr=rate)
                reader, shared = Reader(trainable.model), common_prefix([one.prompt_ids for one in batch])
                logprobs, mask = output_logprobs(reader, batch, shared, trainable.banned)
                optimizer.zero_grad()
                (-(logprobs * mask).sum() / mask.sum()).backward()
                reader.backward()
                optimizer.step()
        return self.written(trainable)

    def _target(self, one: Asked, text: str, *, ends: bool) -> Sample:
        tokens = self.model.tokenizer(text, add_special_tokens=False).input_ids if text else []
        output = [*tokens, self.model.eos_id] if ends else tokens
        return Sample(uuid.uuid4(), one.prompt_ids, output, [0.0] * len(output), 0.7, 0.0, np.zeros(len(NAMES)))

    def rewarded(self, samples: Sequence[Sample], **ppo: float) -> Stack:
        """A candidate of PPO, with these settings changed."""
        trainable = self.trainable()
        config = self.config.ppo.model_copy(update=ppo)
        outcome = train(trainable.model, samples, config, banned=trainable.banned, seed=5)
        assert outcome.steps > 0, outcome
        return self.written(trainable)

    def noise(self, size: float) -> Stack:
        """A candidate whose adapter is random."""
        trainable = self.trainable()
        state, _ = trainable.adapter()
        generator = torch.Generator().manual_seed(1)
        noisy = {name: size * torch.randn(tensor.shape, generator=generator) for name, tensor in state.items()}
        return self.written(trainable, noisy)

    def scaled(self, stack: Stack, factor: float) -> Stack:
        """A candidate with every weight of another one multiplied."""
        state = checkpoints.read_adapter(stack[0][1])
        return self.written(self.trainable(), {name: factor * tensor for name, tensor in state.items()})

    def written(self, trainable: Trainable, state: dict[str, torch.Tensor] | None = None, **changes: str) -> Stack:
        """The candidate on disk, as a training run leaves it."""
        weights, adapter = trainable.adapter()
        checkpoint_id = uuid.uuid4()
        facts = {
            "checkpoint_id": checkpoint_id,
            "bot_id": BOT,
            "kind": CheckpointKind.PPO,
            "base_model": "smollm2",
            "base_hash": self.model.base_hash,
            "stack": [AdapterRef(name="policy", checkpoint_id=checkpoint_id)],
            "created_at": clock.now(),
        }
        manifest = Manifest(**(facts | changes))
        place, _ = checkpoints.write(self.config.model.checkpoint_dir, state or weights, adapter, manifest)
        return [("policy", place)]

    def filled(self, stack: Stack, value: float) -> Stack:
        """The candidate with one tensor overwritten and the manifest made to agree: what a hash cannot show."""
        place = stack[0][1]
        state = checkpoints.read_adapter(place)
        name = sorted(state)[0]
        save_file(state | {name: torch.full_like(state[name], value)}, place / ADAPTER_WEIGHTS)
        forged = json.loads((place / "manifest.json").read_text())
        forged["files"][ADAPTER_WEIGHTS] = checkpoints._sha256(place / ADAPTER_WEIGHTS)
        (place / "manifest.json").write_text(json.dumps(forged))
        return stack

    def damaged(self, stack: Stack, cut: int) -> Stack:
        """The candidate with the end of its weights cut off, or, with nothing to cut, one bit of them turned."""
        file: Path = stack[0][1] / ADAPTER_WEIGHTS
        data = bytearray(file.read_bytes())
        if not cut:
            data[-1] ^= 1
        file.write_bytes(bytes(data[: len(data) - cut]))
        return stack


def skewed(samples: Sequence[Sample], token: int) -> list[Sample]:
    """The same drafts, paid for one common token and for nothing else."""
    return [replace(one, reward=float(sum(id_ == token for id_ in one.output_ids))) for one in samples]
