"""Sampling on a GPU: the step of a batch is captured once as a CUDA graph and replayed for every token.

In eager mode a GPU waits for Python to start its kernels, and for every token's number to reach the host. A graph
starts them all at once, and what a step decides stays on the device: which token is drawn, what is written down, which
rows have ended. The host looks every few tokens whether the batch has ended or can go on with fewer rows.

Keys and values lie in a cache of one size that outlives the batches. There is a graph for each number of slots,
doubling from one to the next, and for each length of the rows, in steps; a slot without a text works on one that nobody
reads.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from app.policy import flash, llama_step
from app.policy.decoding_slots import STEP, Draw, Outputs, Policy, Prompts, Shape, Slots, power_of_two, rounded
from app.policy.flash import Parts
from app.policy.llama_step import LlamaStep

LOOK_EVERY = 8  # tokens; a look waits for the device
MOST_GRAPHS = 64  # kept at a time, of some megabytes each


class GraphSampler:
    """Samples continuations of batches that have been read.

    On other devices than a GPU it does the same without capturing anything.

    Args:
        policy: log-probabilities float32 [rows, vocabulary] of hidden states [rows, width] at a temperature.
        draw: a token of each row of these, by uniforms float64 [rows].
        ends: bool [vocabulary], which tokens end a text.
    """

    def __init__(self, step: LlamaStep, policy: Policy, draw: Draw, ends: Tensor) -> None:
        self._step, self._policy, self._draw, self._ends = step, policy, draw, ends
        self._slots: Slots | None = None
        self._graphs: dict[Shape, Any] = {}

    def sample(self, prompts: Prompts, *, temperature: float, uniforms: Tensor) -> Outputs:
        """Continue a batch until every row has ended or `uniforms` has no more columns.

        Args:
            uniforms: float64 [rows, longest output] from [0, 1), on the device.

        Returns:
            For each row its (token, log-probability) pairs, the end token included where the row ended by itself.
        """
        if self._step.follow_adapters():
            self._graphs.clear()
        slots = self._room_for(prompts, *uniforms.shape)
        slots.load(prompts, temperature, uniforms)
        rows, longest = uniforms.shape
        width, done = slots.width_for(rows), 1
        state = torch.nn.functional.pad(prompts.state, (0, 0, 0, width - rows))
        self._record(slots, width, state)
        while done < longest:
            length = min(rounded(prompts.cache.get_seq_length() + done), slots.sizes[1])
            self._advance(slots, Shape(width, prompts.prefix is not None, length))
            done += 1
            if done % LOOK_EVERY == 0:
                alive = (~slots.ended[:width]).nonzero()[:, 0]
                if len(alive) == 0:
                    break
                if slots.width_for(len(alive)) < width:
                    width = slots.compact(alive)
        return self._written(slots, rows, done)

    def _room_for(self, prompts: Prompts, rows: int, longest: int) -> Slots:
        """Slots for a batch: those that there are, or larger ones in their place."""
        own = prompts.cache.get_seq_length() + longest
        if self._slots is None or not self._slots.hold(rows, own, prompts.shared, longest):
            before, self._slots = self._slots, None  # freed before its successor is made
            self._graphs.clear()
            least = before.sizes if before is not None else (1, STEP, STEP, 64)
            del before
            sizes = tuple(map(max, least, (power_of_two(rows), rounded(own), rounded(prompts.shared), longest)))
            self._slots = Slots(self._step, sizes, prompts.state)  # type: ignore[arg-type]
        return self._slots

    def _advance(self, slots: Slots, shape: Shape) -> None:
        """One more token of each of the first slots."""
        if self._ends.device.type != "cuda":
            self._take_step(slots, shape)
            return
        if shape not in self._graphs:
            if len(self._graphs) == MOST_GRAPHS:
                self._graphs.clear()
            self._graphs[shape] = self._capture(slots, shape)
        self._graphs[shape].replay()

    def _capture(self, slots: Slots, shape: Shape) -> Any:
        """A graph of the step. Libraries set themselves up in their first call, which must not be captured, so the step
        is taken before, on a stream of its own as torch's notes on CUDA graphs ask for, and taken back.
        """
        state = slots.state(shape.width)
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self._take_step(slots, shape)
            slots.restore(state)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        pool = next(iter(self._graphs.values())).pool() if self._graphs else None
        with torch.cuda.graph(graph, pool=pool):
            self._take_step(slots, shape)
        return graph

    def _take_step(self, slots: Slots, shape: Shape) -> None:
        width = shape.width
        used = slots.used[:width]
        positions, places = (slots.shared + used).long(), (slots.key_starts[:width] + used).long()
        used += 1
        own_attention = OwnAttention(slots, shape)
        together = torch.stack((slots.row_starts[0], slots.row_starts[width])), slots.prefix_starts

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            slots.keys[layer].index_copy_(0, places, key)
            slots.values[layer].index_copy_(0, places, value)
            own, own_lse = own_attention(layer, query)
            if not shape.prefix:
                return own
            before = Parts(query, slots.prefix_keys[layer], slots.prefix_values[layer])
            early, early_lse = one_token(before, together, slots.shared)
            share = torch.sigmoid(early_lse - own_lse)[..., None]
            return torch.lerp(own.float(), early.float(), share).to(query.dtype)

        self._record(slots, width, self._step(slots.tokens[:width], positions, attend))

    def _record(self, slots: Slots, width: int, state: Tensor) -> None:
        """Draw a token of each of the first slots and write it down."""
        logprobs = self._policy(state, slots.temperature)
        at = slots.texts[:width], slots.column
        drawn = self._draw(logprobs, slots.uniforms[at])
        slots.outputs[at] = drawn
        slots.logprobs[at] = logprobs.gather(1, drawn[:, None])[:, 0]
        slots.ended[:width] |= self._ends[drawn]
        slots.tokens[:width] = drawn
        slots.column += 1

    def _written(self, slots: Slots, rows: int, done: int) -> Outputs:
        """What was written down of each text, up to its end."""
        outputs, logprobs = slots.outputs[:rows, :done], slots.logprobs[:rows, :done]
        over = self._ends[outputs]
        lengths = torch.where(over.any(1), over.int().argmax(1) + 1, done)
        return [
            list(zip(row[:length], chances[:length], strict=True))
            for row, chances, length in zip(outputs.tolist(), logprobs.tolist(), lengths.tolist(), strict=True)
        ]


class OwnAttention:
    """Attention of one query per slot to the slot's own tokens, in all layers of a step."""

    def __init__(self, slots: Slots, shape: Shape) -> None:
        self._slots, self._shape = slots, shape
        self._used = slots.used[: shape.width]
        self._starts = slots.row_starts[: shape.width + 1], slots.key_starts[: shape.width + 1]
        self._bias = slots.bias(shape) if slots.masked else None

    def __call__(self, layer: int, query: Tensor) -> flash.Attended:
        slots, (width, _, length) = self._slots, self._shape
        if self._bias is not None:
            parts = Parts(query, *(part[:width, :length].transpose(1, 2) for part in slots.by_slot(layer)))
            return flash.one_token_masked(parts, self._bias, query.shape[-1] ** -0.5)
        count = width * slots.sizes[1]
        return one_token(Parts(query, slots.keys[layer][:count], slots.values[layer][:count]), self._starts, self._used)


def pays(model: Any) -> bool:
    """Whether a model is sampled from like this: one of Llama's kind, on a GPU."""
    return model.device.type == "cuda" and llama_step.fits(model)


def one_token(parts: Parts, starts: tuple[Tensor, Tensor], used: Tensor) -> flash.Attended:
    """`flash.one_token` where that can be used, and its formula in float32 where not."""
    scaling = parts.query.shape[-1] ** -0.5
    if flash.usable(parts.query):
        return flash.one_token(parts, starts, used, scaling)
    (_, heads, width), kv_heads, sets = parts.query.shape, parts.key.shape[1], len(used)
    queries = parts.query.view(sets, -1, kv_heads, heads // kv_heads, width).float()
    keys, values = (part.view(sets, -1, kv_heads, width).float() for part in parts[1:])
    scores = torch.einsum("sqkgw,stkw->sqkgt", queries, keys) * scaling
    unused = torch.arange(keys.shape[1], device=keys.device) >= used[:, None]
    scores = scores.masked_fill(unused[:, None, None, None], -torch.inf)
    lse = scores.logsumexp(-1, keepdim=True)
    out = torch.einsum("sqkgt,stkw->sqkgw", (scores - lse).exp(), values)
    return flash.Attended(out.reshape(parts.query.shape).to(parts.query.dtype), lse.reshape(-1, heads))
