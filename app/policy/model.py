"""The language model: one base in memory, adapters swapped on it, sampling with exact log-probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import torch
from transformers import AutoTokenizer

from app.config import ModelConfig
from app.policy.adapters import AdapterStacks
from app.policy.base_model import ModelError, base_directory
from app.policy.checkpoints import CheckpointError, base_hash
from app.policy.decoding import Batch, Decoder
from app.policy.loading import load_base

log = structlog.get_logger()

YES = ("Yes", " Yes", "yes", " yes", "YES", " YES")
NO = ("No", " No", "no", " no", "NO", " NO")


@dataclass(frozen=True)
class Sample:
    """One sampled continuation.

    `logprobs` are natural, one per output token, of the distribution that it was drawn from. `finished` says whether
    the model ended the text itself; the token that ended it is then the last of `token_ids`. `text` has no special
    token.
    """

    token_ids: list[int]
    logprobs: list[float]
    finished: bool
    text: str


class LanguageModel:
    """A base model and the stack of adapters that is active on it.

    The policy is the tempered softmax over all tokens but the banned ones: special tokens other than the end token,
    and rows of the embedding that no token has. A text ends with the end token or with its first line break: a post
    is one paragraph, and a small model that begins a second one rarely ends it. No top-k, no top-p: they would cut
    the support that ratios need. `sample` and `score` use the same distribution.

    Not safe for use by several threads at once: which adapters are active is a property of the model.

    Attributes:
        directory: where the base model's files are.
        base_hash: SHA-256 of its weights.
        banned_ids: tokens that are never sampled.
    """

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self.directory = base_directory(config)
        try:
            self.base_hash = base_hash(self.directory)
        except CheckpointError as error:
            raise ModelError(f"model.hf_repo_id: got {config.hf_repo_id!r}; {error}") from None
        self.tokenizer = AutoTokenizer.from_pretrained(self.directory, trust_remote_code=False)
        base = load_base(self.directory, config)
        self.device, self.dtype = base.device, base.dtype
        self.eos_id = _end_token(self.tokenizer, config)
        self._ends = frozenset({self.eos_id, *line_breaks(self.tokenizer)})
        self.banned_ids = banned_ids(self.tokenizer, base.config.vocab_size, self.eos_id)
        banned, ends = torch.tensor(self.banned_ids, dtype=torch.long), torch.tensor(sorted(self._ends))
        self._decoder = Decoder(base, pad_id=self.eos_id, banned=banned, end_ids=ends)
        _check_head(base)
        self._adapters = AdapterStacks(base)
        self._yes, self._no = (_single_tokens(self.tokenizer, words) for words in (YES, NO))
        log.info(
            "model.loaded",
            model=config.hf_repo_id,
            base_hash=self.base_hash[:12],
            device=str(self.device),
            dtype=str(self.dtype).removeprefix("torch."),
        )

    def use(self, stack: Sequence[Path]) -> None:
        """Make exactly these adapters active, from the bottom up; an empty stack is the base.

        Raises:
            AdapterError: an adapter does not fit.
        """
        self._adapters.use(stack)

    def ends(self, token_id: int) -> bool:
        """Whether a token ends a text."""
        return token_id in self._ends

    @torch.inference_mode()
    def sample(
        self, prompts: Sequence[Sequence[int]], *, temperature: float, max_new_tokens: int, seed: int
    ) -> list[Sample]:
        """One continuation of each prompt, in their order. The same seed and prompts give the same texts."""
        if not prompts:
            return []
        generator = torch.Generator().manual_seed(seed)
        uniforms = torch.rand(len(prompts), max_new_tokens, dtype=torch.float64, generator=generator)
        found: dict[int, Sample] = {}
        for batch in self._batches(prompts, prompts):
            outputs = self._decoder.sample(batch, temperature=temperature, uniforms=uniforms[batch.members])
            found |= {i: self._sample(pairs) for i, pairs in zip(batch.members, outputs, strict=True)}
        return [found[i] for i in range(len(prompts))]

    @torch.inference_mode()
    def score(
        self, prompts: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]], temperature: float
    ) -> list[list[float]]:
        """Log-probabilities of each output's tokens after its prompt, under the distribution `sample` draws from."""
        if not prompts:
            return []
        whole = [[*prompt, *output[:-1]] for prompt, output in zip(prompts, outputs, strict=True)]
        found: dict[int, list[float]] = {}
        for batch in self._batches(whole, prompts):
            rows = self._decoder.score(batch, [outputs[i] for i in batch.members], temperature)
            found |= {i: row.tolist() for i, row in zip(batch.members, rows, strict=True)}
        return [found[i] for i in range(len(prompts))]

    @torch.inference_mode()
    def log_odds(self, prompts: Sequence[Sequence[int]]) -> list[float]:
        """log p(Yes) − log p(No) of the next token after each prompt, over their spellings of one token."""
        if not prompts:
            return []
        tokens = torch.tensor([*self._yes, *self._no])
        found: dict[int, float] = {}
        for batch in self._batches(prompts, prompts):
            logits = self._decoder.next_logits(batch, tokens)
            yes, no = logits[:, : len(self._yes)], logits[:, len(self._yes) :]
            odds = yes.logsumexp(1) - no.logsumexp(1)
            found |= dict(zip(batch.members, odds.tolist(), strict=True))
        return [found[i] for i in range(len(prompts))]

    def _batches(self, sequences: Sequence[Sequence[int]], prompts: Sequence[Sequence[int]]) -> Iterator[Batch]:
        weights = self._adapters.active  # a checkpoint's files never change
        return self._decoder.batches(sequences, self._config.batch_size, prompts=prompts, weights=weights)

    def _sample(self, pairs: list[tuple[int, float]]) -> Sample:
        tokens = [token for token, _ in pairs]
        finished = self.ends(tokens[-1])
        text = str(self.tokenizer.decode(tokens[:-1] if finished else tokens, clean_up_tokenization_spaces=False))
        # PostgreSQL takes no NUL in a text. The token ids keep what was sampled, and the rules refuse either character.
        text = text.replace("\x00", "\ufffd")
        return Sample(tokens, [logprob for _, logprob in pairs], finished, text)


def banned_ids(tokenizer: Any, vocabulary: int, eos_id: int) -> list[int]:
    """Tokens that the policy never samples: special ones but the end token, and rows that no token has.

    Args:
        vocabulary: rows of the model's output embedding.
    """
    return sorted((special_ids(tokenizer) | set(range(len(tokenizer), vocabulary))) - {eos_id})


def line_breaks(tokenizer: Any) -> list[int]:
    """Tokens with a line break in them."""
    texts = tokenizer.batch_decode([[token_id] for token_id in range(len(tokenizer))])
    return [token_id for token_id, text in enumerate(texts) if "\n" in text]


def special_ids(tokenizer: Any) -> set[int]:
    """Ids of every special token of a tokenizer, the end token among them."""
    added = {token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.special}
    return added | set(tokenizer.all_special_ids)


def _end_token(tokenizer: Any, config: ModelConfig) -> int:
    """The id that ends a turn.

    Raises:
        ModelError: the tokenizer has no chat template, or no end token.
    """
    if tokenizer.chat_template is None or tokenizer.eos_token_id is None:
        raise ModelError(
            f"model.hf_repo_id: {config.hf_repo_id!r} has no chat template or no end token; use an Instruct model"
        )
    return int(tokenizer.eos_token_id)


def _single_tokens(tokenizer: Any, words: Sequence[str]) -> list[int]:
    encoded = (tokenizer(word, add_special_tokens=False).input_ids for word in words)
    ids = sorted({tokens[0] for tokens in encoded if len(tokens) == 1})
    if not ids:
        raise ModelError(f"the tokenizer has no single token for any of {', '.join(words)}; judging needs one")
    return ids


@torch.inference_mode()
def _check_head(base: Any) -> None:
    """Make sure that the model's logits are its head's matrix times its hidden states, and nothing else.

    Raises:
        ModelError: they are not, as with a soft cap (Gemma 2) or a scale (Cohere, Granite).
    """
    tokens = torch.arange(8, device=base.device)[None]
    theirs = base(input_ids=tokens).logits[0].float()
    ours = (
        base.get_decoder()(input_ids=tokens).last_hidden_state[0].float()
        @ base.get_output_embeddings().weight.float().T
    )
    if float((ours - theirs).abs().max()) > 0.05 * float(theirs.abs().max()):
        raise ModelError(f"{type(base).__name__} changes its logits after the head; use a model of the Llama kind")
