"""Forward passes over batches of prompts: sampling, scoring, and what a model would say next.

Everything runs on the decoder's hidden states, and the head is applied only where its logits are wanted. Three things
make it fast: what all prompts begin with (the persona) is read once and its keys and values are shared; rows of like
length go together; rows that have ended leave the batch. Padding is on the right, where a causal model cannot see it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

from app.policy import graph_decoding, llama_step, shared_attention
from app.policy.decoding_slots import Prompts
from app.policy.eager_decoding import EagerSampler
from app.policy.graph_decoding import GraphSampler
from app.policy.llama_step import LlamaStep
from app.policy.packed_weights import Head, pack, pays
from app.policy.prefixes import MIN_SHARED, alike, common_prefix
from app.policy.roomy_cache import with_room

BLOCK = 256  # tokens per block of the two-step draw
# Own tokens that a processor reads at a time: what a layer makes of more is larger than its cache, and rows of other
# lengths are padded to each other. 50 posts to be judged took 2.2 s with all 4,000 at once, 1.75 s like this, 1.9 with
# half of it.
READ_AT_ONCE = 1024
# Prefixes whose keys and values are kept, 8 MB each with a persona of 350 tokens: of the two questions of the judge, of
# replies, quotes and own posts, the latter three by two checkpoints.
KEPT_PREFIXES = 8


class Decoder:
    """A causal language model as decoder and head.

    The head works in the model's number format. In float32 over bfloat16 states it took four times as long, a third of
    a step, and brought the gap to another batch's log-probabilities from 0.071 to 0.054 a token (standard deviation):
    most of that rounding is in the states. What is logged is what was drawn from, either way.
    """

    def __init__(self, model: Any, *, pad_id: int, banned: Tensor, end_ids: Tensor) -> None:
        model.set_attn_implementation(shared_attention.NAME)
        pack(model)
        self._decoder = model.get_decoder()
        self._config = model.config
        head = model.get_output_embeddings().weight.detach()
        self._head = Head(head, packed=pays(head))
        self._device = self._head.weight.device
        self._prefixes: OrderedDict[tuple[Hashable, tuple[int, ...]], DynamicCache] = OrderedDict()
        self._pad_id = pad_id
        self._banned = banned.to(self._device)
        self._ends = torch.zeros(len(self._head.weight), dtype=torch.bool, device=self._device)
        self._ends[end_ids.to(self._device)] = True
        step = LlamaStep(self._decoder, self._config) if llama_step.fits(model) else None
        self._sampler: GraphSampler | EagerSampler
        if step is not None and graph_decoding.pays(model):
            self._sampler = GraphSampler(step, self.logprobs, draw, self._ends)
        else:
            self._sampler = EagerSampler(self._decoder, step, self.logprobs, draw, self._ends)

    def logprobs(self, hidden: Tensor, temperature: float | Tensor) -> Tensor:
        """The policy: log-softmax of the tempered logits with banned tokens masked.

        Args:
            hidden: last hidden states, [rows, width].

        Returns:
            float32 [rows, vocabulary]; minus infinity for banned tokens.
        """
        logits = self._head(hidden).float().div_(temperature)
        return torch.log_softmax(logits.index_fill_(1, self._banned, -torch.inf), dim=-1)

    def next_logits(self, batch: Batch, tokens: Tensor) -> Tensor:
        """Logits of a few tokens after each prompt, neither tempered nor masked: float32 [rows, tokens]."""
        few = self._head.weight[tokens.to(self._device)]
        state = torch.cat([piece.state for piece in self._read(batch)])
        return state.float() @ few.float().T

    def score(self, batch: Batch, outputs: Sequence[Sequence[int]], temperature: float) -> list[Tensor]:
        """Log-probabilities of each row's output tokens.

        Args:
            batch: each row its prompt followed by its output without the last token.
        """
        found = []
        for piece in self._read(batch):
            for hidden, last, output in zip(piece.hidden, piece.last.tolist(), outputs[piece.rows], strict=True):
                states = hidden[last + 1 - len(output) : last + 1]
                targets = torch.tensor(output, device=self._device)[:, None]
                found.append(self.logprobs(states, temperature).gather(1, targets)[:, 0])
        return found

    def sample(self, batch: Batch, *, temperature: float, uniforms: Tensor) -> list[list[tuple[int, float]]]:
        """Sample a continuation of each row, until it ends or `uniforms` has no more columns.

        Args:
            uniforms: float64 [rows, longest output] from [0, 1). Row and column alone decide what is drawn, so that a
                row's text does not depend on which rows are beside it (but for the rounding of its logits).

        Returns:
            For each row its (token, log-probability) pairs, the end token included where the row ended by itself.
        """
        once, times = batch.once()
        pieces = list(self._read(once, keep_cache=True))
        state = torch.cat([piece.state for piece in pieces]).repeat_interleave(times, dim=0)
        if isinstance(self._sampler, GraphSampler):  # which keeps room of its own
            cache = pieces[0].cache
            cache.batch_select_indices(once.row_numbers.repeat_interleave(times))
        else:
            cache = with_room([piece.cache for piece in pieces], uniforms.shape[1], times)
        del pieces
        prompts = Prompts(state, cache, batch.last + 1, batch.prefix, batch.shared)
        return self._sampler.sample(prompts, temperature=temperature, uniforms=uniforms.to(self._device))

    def batches(
        self,
        sequences: Sequence[Sequence[int]],
        size: int,
        *,
        prompts: Sequence[Sequence[int]],
        weights: Hashable = None,
    ) -> Iterator[Batch]:
        """Cut sequences into batches of like lengths, sharing what their prompts begin with.

        Args:
            sequences: what is read, each a prompt or a prompt with more after it.
            prompts: the part of each sequence that may be shared.
            weights: a name for the weights as they are. A few of the prefixes read under a name are kept, because
                the next batch will begin alike; without one, none is.
        """
        for group in alike(prompts):
            shared = common_prefix([prompts[i] for i in group]) if len(group) > 1 else 0
            shared = shared if shared >= MIN_SHARED else 0
            prefix = self._prefix(tuple(sequences[group[0]][:shared]), weights) if shared else None
            order = sorted(group, key=lambda i: (len(sequences[i]), sequences[i]))
            count = -(-len(order) // size)
            for at in range(count):  # of equal size: 25 and 25 rather than 32 and 18
                members = order[at * len(order) // count : (at + 1) * len(order) // count]
                own = [torch.tensor(sequences[i][shared:], device=self._device) for i in members]
                tokens = torch.nn.utils.rnn.pad_sequence(own, batch_first=True, padding_value=self._pad_id)
                last = torch.tensor([len(row) - 1 for row in own], device=self._device)
                yield Batch(members, tokens, last, shared, prefix)

    def _prefix(self, tokens: tuple[int, ...], weights: Hashable) -> DynamicCache:
        """Keys and values of a prefix: kept ones, or read now."""
        key = weights, tokens
        prefix = self._prefixes.pop(key, None) or self._read_prefix(tokens)
        if weights is not None:
            self._prefixes[key] = prefix  # the last that was used
            if len(self._prefixes) > KEPT_PREFIXES:
                self._prefixes.popitem(last=False)
        return prefix

    def _read_prefix(self, tokens: Sequence[int]) -> DynamicCache:
        cache = DynamicCache(config=self._config)
        self._decoder(
            input_ids=torch.tensor([list(tokens)], device=self._device), past_key_values=cache, use_cache=True
        )
        return cache

    def _read(self, batch: Batch, *, keep_cache: bool = False) -> Iterator[Piece]:
        """Read a batch, a few rows at a time where that is quicker."""
        for rows, longest in self._pieces(batch):
            tokens = batch.tokens[rows, :longest]
            cache = DynamicCache(config=self._config) if keep_cache else None
            positions = batch.shared + torch.arange(longest, device=self._device)[None]
            out = self._decoder(
                input_ids=tokens,
                position_ids=positions.expand_as(tokens),
                past_key_values=cache,
                use_cache=keep_cache,
                shared_prefix=batch.prefix,
            )
            yield Piece(rows, batch.last[rows], out.last_hidden_state, cache)

    def _pieces(self, batch: Batch) -> Iterator[tuple[slice, int]]:
        """Rows that are read at a time, and the tokens of the longest of them: all rows on a GPU, as many as
        `READ_AT_ONCE` allows on a processor.
        """
        begin, (end, longest) = 0, batch.tokens.shape
        if self._device.type == "cpu":
            lengths = (batch.last + 1).tolist()
            for row in range(1, end):
                if (row + 1 - begin) * lengths[row] > READ_AT_ONCE:
                    yield slice(begin, row), lengths[row - 1]
                    begin = row
        yield slice(begin, end), longest


@dataclass(frozen=True)
class Batch:
    """Some sequences, the shortest first and equal ones together, padded on the right, without the prefix they share.

    Attributes:
        members: which of the call's sequences these are.
        tokens: [rows, longest].
        last: column of each row's last token.
        shared: tokens of the prefix; `prefix` holds its keys and values.
    """

    members: list[int]
    tokens: Tensor
    last: Tensor
    shared: int
    prefix: DynamicCache | None

    @cached_property
    def row_numbers(self) -> Tensor:
        return torch.arange(len(self.last), device=self.last.device)

    def once(self) -> tuple[Batch, Tensor]:
        """The batch with every sequence once, and how often each of them is in this one; the same stand together."""
        differs = (self.tokens[1:] != self.tokens[:-1]).any(1) | (self.last[1:] != self.last[:-1])
        first = torch.nn.functional.pad(differs, (1, 0), value=True).nonzero()[:, 0]
        times = torch.diff(first, append=first.new_tensor([len(self.last)]))
        members = [self.members[row] for row in first.tolist()]
        return replace(self, members=members, tokens=self.tokens[first], last=self.last[first]), times


class Piece(NamedTuple):
    """Some rows of a batch that were read.

    Attributes:
        last: column of each row's last token.
        hidden: last hidden states, [rows, the longest of these, width].
        cache: the rows' keys and values, if they are kept.
    """

    rows: slice
    last: Tensor
    hidden: Tensor
    cache: Any

    @property
    def state(self) -> Tensor:
        """The hidden state of each row's last token, [rows, width]."""
        return self.hidden[torch.arange(len(self.last), device=self.last.device), self.last]


def draw(logprobs: Tensor, uniform: Tensor) -> Tensor:
    """Draw one token per row by inverting the distribution function.

    Sums run first over blocks, then within one, and add up in float64: 49,152 numbers added one after another take ten
    times as long, and in float32 they lose the tail.

    Args:
        logprobs: float32 [rows, vocabulary].
        uniform: float64 [rows] from [0, 1).
    """
    probabilities = logprobs.exp()
    if padding := -probabilities.shape[1] % BLOCK:  # SmolLM2's vocabulary needs none
        probabilities = torch.nn.functional.pad(probabilities, (0, padding))
    blocks = probabilities.view(len(probabilities), -1, BLOCK)
    mass = blocks.sum(-1).double()
    upto = mass.cumsum(-1)
    below_one = 1 - 2.0**-50  # a share of exactly 1 would point behind the last token that can be drawn
    wanted = uniform.clamp(max=below_one)[:, None] * upto[:, -1:]
    block = torch.searchsorted(upto, wanted, right=True)
    share = ((wanted - (upto - mass).gather(1, block)) / mass.gather(1, block)).clamp(0, below_one)
    inside = blocks[torch.arange(len(block), device=block.device), block[:, 0]].cumsum(-1, dtype=torch.float64)
    token = torch.searchsorted(inside, share * inside[:, -1:], right=True)
    return (block * BLOCK + token)[:, 0]
