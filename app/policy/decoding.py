"""Forward passes over batches of prompts: sampling, scoring, and what a model would say next.

Everything runs on the decoder's hidden states, and the head is applied only where its logits are wanted. Three things
make it fast: what all prompts begin with (the persona) is read once and its keys and values are shared; rows of like
length go together; rows that have ended leave the batch. Padding is on the right, where a causal model cannot see it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

from app.policy import graph_decoding, shared_attention
from app.policy.decoding_slots import Prompts
from app.policy.graph_decoding import GraphSampler
from app.policy.llama_step import LlamaStep
from app.policy.packed_weights import Head, pack
from app.policy.prefixes import MIN_SHARED, alike, common_prefix
from app.policy.roomy_cache import with_room

BLOCK = 256  # tokens per block of the two-step draw
# Own tokens that a processor reads at a time: what a layer makes of more is larger than its cache, and rows of other
# lengths are padded to each other. 50 posts to be judged took 2.2 s with all 4,000 at once, 1.75 s like this, 1.9 with
# half of it.
READ_AT_ONCE = 1024
COMPACT_AT = 0.25  # share of ended rows at which the batch is made smaller; doing so copies the cache


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
        self._head = Head(model.get_output_embeddings().weight.detach())
        self._device = self._head.weight.device
        self._pad_id = pad_id
        self._banned = banned.to(self._device)
        self._ends = torch.zeros(len(self._head.weight), dtype=torch.bool, device=self._device)
        self._ends[end_ids.to(self._device)] = True
        self._graphs = None
        if graph_decoding.pays(model):
            self._graphs = GraphSampler(LlamaStep(self._decoder, self._config), self.logprobs, draw, self._ends)

    def logprobs(self, hidden: Tensor, temperature: float | Tensor) -> Tensor:
        """The policy: log-softmax of the tempered logits with banned tokens masked.

        Args:
            hidden: last hidden states, [rows, width].

        Returns:
            float32 [rows, vocabulary]; minus infinity for banned tokens.
        """
        logits = self._head(hidden).float() / temperature
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
        pieces = list(self._read(batch, keep_cache=True))
        state = torch.cat([piece.state for piece in pieces])
        if self._graphs is not None:
            prompts = Prompts(state, pieces[0].cache, batch.last + 1, batch.prefix, batch.shared)
            return self._graphs.sample(prompts, temperature=temperature, uniforms=uniforms.to(self._device))
        cache = with_room([piece.cache for piece in pieces], uniforms.shape[1])
        del pieces
        columns = torch.arange(batch.tokens.shape[1], device=self._device)[None]
        visible = (columns <= batch.last[:, None]).long()  # of its own tokens; the shared ones always are
        rows, uniforms = batch.row_numbers, uniforms.to(self._device)
        outputs: list[list[tuple[int, float]]] = [[] for _ in range(len(batch.last))]
        ended = torch.zeros_like(rows, dtype=torch.bool)
        for step in range(uniforms.shape[1]):
            logprobs = self.logprobs(state, temperature)
            drawn = draw(logprobs, uniforms[rows, step])
            picked = logprobs.gather(1, drawn[:, None])[:, 0]
            for row, token, logprob, over in zip(
                rows.tolist(), drawn.tolist(), picked.tolist(), ended.tolist(), strict=True
            ):
                if not over:
                    outputs[row].append((token, logprob))
            ended = ended | self._ends[drawn]
            if bool(ended.all()) or step + 1 == uniforms.shape[1]:
                break
            if float(ended.float().mean()) >= COMPACT_AT:
                kept = (~ended).nonzero()[:, 0]
                cache.batch_select_indices(kept)
                rows, drawn, visible, ended = rows[kept], drawn[kept], visible[kept], ended[kept]
            position = batch.shared + visible.sum(1, keepdim=True)
            visible = torch.nn.functional.pad(visible, (0, 1), value=1)
            state = self._decoder(
                input_ids=drawn[:, None],
                attention_mask=visible,
                position_ids=position,
                past_key_values=cache,
                use_cache=True,
                shared_prefix=batch.prefix,
            ).last_hidden_state[:, 0]
        return outputs

    def batches(
        self,
        sequences: Sequence[Sequence[int]],
        size: int,
        *,
        prompts: Sequence[Sequence[int]],
    ) -> Iterator[Batch]:
        """Cut sequences into batches of like lengths, sharing what their prompts begin with.

        Args:
            sequences: what is read, each a prompt or a prompt with more after it.
            prompts: the part of each sequence that may be shared.
        """
        for group in alike(prompts):
            shared = common_prefix([prompts[i] for i in group]) if len(group) > 1 else 0
            shared = shared if shared >= MIN_SHARED else 0
            prefix = self._read_prefix(sequences[group[0]][:shared]) if shared else None
            order = sorted(group, key=lambda i: len(sequences[i]))
            count = -(-len(order) // size)
            for at in range(count):  # of equal size: 25 and 25 rather than 32 and 18
                members = order[at * len(order) // count : (at + 1) * len(order) // count]
                own = [torch.tensor(sequences[i][shared:], device=self._device) for i in members]
                tokens = torch.nn.utils.rnn.pad_sequence(own, batch_first=True, padding_value=self._pad_id)
                last = torch.tensor([len(row) - 1 for row in own], device=self._device)
                yield Batch(members, tokens, last, shared, prefix)

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
    """Some sequences, the shortest first, padded on the right, without the prefix that they share.

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
