"""Evidence for the gate: the candidate as it was written to disk, loaded as the bot would load it, put to work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from app.config import VibeBotConfig
from app.learning.dataset import Dataset, Logged
from app.learning.experience import MAX_GAP
from app.learning.features import Array
from app.learning.gate import Profile, Verdict, judge, refuse, wave_through
from app.learning.offpolicy import Estimate, estimate
from app.learning.textmeasures import Sampled, measure
from app.policy.adapters import AdapterError
from app.policy.checkpoints import CheckpointError, read_adapter, verify
from app.policy.model import LanguageModel
from app.policy.registry import Stack
from app.policy.wording import INSTRUCTIONS
from app.safety import check_text
from dbs.states import Kind

SEED = 20240229  # the same for every candidate, so that verdicts differ by the candidate alone
SHOWN = 12  # samples kept for a person to read


@dataclass(frozen=True)
class Sides:
    """The adapters that are compared, from the bottom up."""

    candidate: Stack
    incumbent: Stack
    reference: Stack


def examine(
    model: LanguageModel,
    sides: Sides,
    data: Dataset,
    profile: Profile,
    *,
    config: VibeBotConfig,
    recent: Sequence[str],
) -> Verdict:
    """Have the gate judge a candidate.

    Args:
        data: its held-out drafts are the logged posts, and their prompts are what both sides write to.
        recent: the bot's latest posts, which nothing may repeat.
    """
    try:
        for _, path in sides.candidate:
            verify(path, model.base_hash, config.bot_id)
        model.use(_paths(sides.candidate))
    except (CheckpointError, AdapterError) as error:
        return refuse(profile, str(error))
    evidence = _compare(model, sides, data)
    if evidence is None:
        return refuse(profile, "its log-probabilities of held-out posts are not finite")
    prompts = list(islice(cycle(data.held_out), profile.prompts))
    before = _write(model, sides.incumbent, sides, prompts, config=config, recent=recent)
    after = _write(model, sides.candidate, sides, prompts, config=config, recent=recent)
    shown = [_shown(*three) for three in zip(prompts[:SHOWN], before, after, strict=False)]
    return judge(profile, evidence, measure(after), measure(before), shown)


def look_at_weights(candidate: Stack, profile: Profile, *, base_hash: str, config: VibeBotConfig) -> Verdict:
    """Have an open gate judge a candidate by its files alone: whole, of this base, and finite."""
    broken = []
    try:
        for _, path in candidate:
            verify(path, base_hash, config.bot_id)
            broken += [name for name, tensor in read_adapter(path).items() if not bool(tensor.isfinite().all())]
    except CheckpointError as error:
        return refuse(profile, str(error))
    return wave_through(profile, broken)


def _compare(model: LanguageModel, sides: Sides, data: Dataset) -> Estimate | None:
    """What the candidate would have earned on the held-out posts; None if it has no opinion of them."""
    posts = data.held_out
    logged = np.array([sum(post.sample.behaviour_logprobs) for post in posts])
    candidate, incumbent, behaviour = np.empty_like(logged), np.empty_like(logged), logged.copy()
    # Author by author, so that what each thought of its posts comes from the same batches: another batch of the same
    # posts rounds otherwise, by tenths of a nat.
    for author in {post.author_id for post in posts}:
        wrote = np.array([post.author_id == author for post in posts])
        own = [post for post in posts if post.author_id == author]
        itself = data.stacks.get(author)
        stacks = [sides.candidate, sides.incumbent, *([] if itself is None else [itself])]
        scores = {paths: _logprobs(model, paths, own) for paths in {_paths(stack) for stack in stacks}}
        candidate[wrote], incumbent[wrote] = scores[_paths(sides.candidate)], scores[_paths(sides.incumbent)]
        if itself is not None:
            behaviour[wrote] = scores[_paths(itself)]
    if not np.isfinite(candidate).all():
        return None
    sound = np.abs(behaviour - logged) <= MAX_GAP
    return estimate(
        candidate[sound],
        incumbent[sound],
        behaviour[sound],
        np.array([post.outcome for post in posts])[sound],
        np.stack([post.sample.features for post in posts])[sound],
    )


def _logprobs(model: LanguageModel, stack: Sequence[Path], posts: Sequence[Logged]) -> Array:
    """Log-probability of each logged output as a whole."""
    model.use(stack)
    found = np.empty(len(posts))
    for temperature in {post.sample.temperature for post in posts}:
        members = [i for i, post in enumerate(posts) if post.sample.temperature == temperature]
        prompts = [posts[i].sample.prompt_ids for i in members]
        outputs = [posts[i].sample.output_ids for i in members]
        found[members] = [sum(row) for row in model.score(prompts, outputs, temperature)]
    return found


def _write(
    model: LanguageModel,
    stack: Stack,
    sides: Sides,
    prompts: Sequence[Logged],
    *,
    config: VibeBotConfig,
    recent: Sequence[str],
) -> list[Sampled]:
    temperature, tokens = config.model.temperature, [post.sample.prompt_ids for post in prompts]
    model.use(_paths(stack))
    samples = model.sample(tokens, temperature=temperature, max_new_tokens=config.model.max_new_tokens, seed=SEED)
    model.use(_paths(sides.reference))
    theirs = model.score(tokens, [sample.token_ids for sample in samples], temperature)
    written = []
    for i, (post, sample) in enumerate(zip(prompts, samples, strict=True)):
        refusal = check_text(
            sample.text.strip(),
            kind=Kind(post.kind),
            allowed_handles=set(post.allowed_handles),
            recent=recent,
            safety=config.safety,
            source_texts=post.source_texts,
            finished=sample.finished,
            instructions=INSTRUCTIONS,
        )
        written.append(
            Sampled(
                text=sample.text.strip(),
                tokens=len(sample.token_ids),
                finished=sample.finished,
                refused_by=refusal.rule if refusal else None,
                own_logprob=float(sum(sample.logprobs)),
                reference_logprob=float(sum(theirs[i])),
            )
        )
    return written


def _shown(post: Logged, before: Sampled, after: Sampled) -> dict[str, Any]:
    return {
        "kind": post.kind,
        "answers": post.source_texts[0] if post.source_texts else None,
        "incumbent": before.text,
        "candidate": after.text,
        "candidate_refused_by": after.refused_by,
    }


def _paths(stack: Stack) -> tuple[Path, ...]:
    return tuple(path for _, path in stack)
