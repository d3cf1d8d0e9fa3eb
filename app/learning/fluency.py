"""What a model makes of texts, before and after a training: perplexity, style, and what it has by heart."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pydoc_data.topics import topics
from typing import Any

import torch
from torch import Tensor

from app.learning.conversations import Example
from app.text import canonical

BATCH = 8
RUN = 5  # words in a row that are taken from a text rather than from the language
GENERAL_TEXTS = 60
GENERAL_TOKENS = 200
PARAGRAPH = re.compile(r"\n\s*\n")


@torch.no_grad()
def perplexity(model: Any, examples: Sequence[Example], pad_id: int) -> float:
    """exp of the mean negative log-likelihood of an answer's token, over all tokens of all answers.

    Args:
        model: a causal model on any device; it is left in the mode in which it was.
    """
    if not examples:
        return math.nan
    was_training = model.training
    model.eval()
    total, count = 0.0, 0
    for batch in _batches(examples):
        nll, tokens = _answers_nll(model, batch, pad_id)
        total, count = total + nll, count + tokens
    model.train(was_training)
    return math.exp(total / count)


@torch.no_grad()
def write(
    model: Any, tokenizer: Any, examples: Sequence[Example], *, temperature: float, most_tokens: int
) -> list[str]:
    """What a model answers to each prompt, sampled; the same weights write the same."""
    end = int(tokenizer.eos_token_id)
    was_training = model.training
    model.eval()
    torch.manual_seed(0)
    texts: list[str] = []
    for batch in _batches(examples):
        longest = max(len(example.prompt_ids) for example in batch)
        pads = [longest - len(example.prompt_ids) for example in batch]
        rows = [[end] * pad + example.prompt_ids for pad, example in zip(pads, batch, strict=True)]
        mask = [[0] * pad + [1] * (longest - pad) for pad in pads]
        written = model.generate(
            input_ids=torch.tensor(rows, device=model.device),
            attention_mask=torch.tensor(mask, device=model.device),
            do_sample=True,
            temperature=temperature,
            top_k=0,
            top_p=1.0,
            max_new_tokens=most_tokens,
            pad_token_id=end,
            eos_token_id=end,
        )
        texts += [str(text).strip() for text in tokenizer.batch_decode(written[:, longest:], skip_special_tokens=True)]
    model.train(was_training)
    return texts


def general_english(tokenizer: Any, begin: int) -> list[Example]:
    """Prose that has nothing to do with any community: paragraphs of Python's own documentation.

    Args:
        begin: the token that each begins behind.
    """
    examples: list[Example] = []
    for name in sorted(topics):
        for paragraph in PARAGRAPH.split(topics[name]):
            text = " ".join(paragraph.split())
            if len(text) > 300 and text[0].isupper() and text.endswith(".") and "::" not in text:
                ids = tokenizer(text, add_special_tokens=False).input_ids[:GENERAL_TOKENS]
                examples.append(Example([begin], ids, text))
                break
    return examples[:GENERAL_TEXTS]


def style(texts: Sequence[str]) -> dict[str, float]:
    """What posts look like: characters and words on average, shares with a hashtag, a question, an exclamation."""
    if not texts:
        return {}
    marks = {
        "hashtags": r"[#＃]\w",
        "questions": r"\?",
        "exclamations": "!",
        "digits": r"\d",
        "capital_start": r"^\W*[A-Z]",
    }
    shares = {name: sum(bool(re.search(mark, text)) for text in texts) / len(texts) for name, mark in marks.items()}
    return {
        "characters": sum(map(len, texts)) / len(texts),
        "words": sum(len(text.split()) for text in texts) / len(texts),
        **shares,
    }


def distance(left: dict[str, float], right: dict[str, float]) -> float:
    """How far two styles are apart: lengths by the logarithm of their ratio, shares by their difference; summed."""
    lengths = ("characters", "words")
    return sum(
        abs(math.log(max(left[name], 0.5) / max(right[name], 0.5)))
        if name in lengths
        else abs(left[name] - right[name])
        for name in left.keys() & right.keys()
    )


def overlap(written: Sequence[str], trained_on: Iterable[str]) -> dict[str, float]:
    """How much of what was written stands in the training texts, word for word; memory holds only what was written.

    Returns:
        `runs`: the share of its runs of five words that occur there; `copies`: the share of texts that occur whole.
    """
    runs = [_runs(text) for text in written]
    wanted = set().union(*runs)
    whole = {canonical(text) for text in written}
    found: set[tuple[str, ...]] = set()
    copied: set[str] = set()
    for text in trained_on:
        found |= wanted & _runs(text)
        if (plain := canonical(text)) in whole:
            copied.add(plain)
    return {
        "runs": len(found) / len(wanted) if wanted else 0.0,
        "copies": sum(canonical(text) in copied for text in written) / len(written) if written else 0.0,
    }


def _runs(text: str) -> set[tuple[str, ...]]:
    words = canonical(text).split()
    return {tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1)}


def _batches(examples: Sequence[Example]) -> Iterable[Sequence[Example]]:
    """Of like lengths, so that little is padding."""
    ordered = sorted(examples, key=lambda example: len(example.prompt_ids) + len(example.answer_ids))
    return (ordered[i : i + BATCH] for i in range(0, len(ordered), BATCH))


def _answers_nll(model: Any, batch: Sequence[Example], pad_id: int) -> tuple[float, int]:
    whole = [[*example.prompt_ids, *example.answer_ids] for example in batch]
    longest = max(map(len, whole))
    ids = torch.tensor([row + [pad_id] * (longest - len(row)) for row in whole], device=model.device)
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in whole], device=model.device)
    logits: Tensor = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    total, count = 0.0, 0
    for row, example in enumerate(batch):
        first, last = len(example.prompt_ids), len(whole[row])
        loss = torch.nn.functional.cross_entropy(
            logits[row, first - 1 : last - 1].float(), ids[row, first:last], reduction="sum"
        )
        total, count = total + float(loss), count + last - first
    return total, count
