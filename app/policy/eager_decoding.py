"""Sampling on a processor: a step of the model for all rows, then a token for each, until every row has ended.

Rows that have ended leave the batch, because there a step costs more the more rows it has.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from app.policy import shared_attention
from app.policy.decoding_slots import Draw, Outputs, Policy, Prompts
from app.policy.llama_step import LlamaStep
from app.policy.shared_attention import Keys

COMPACT_AT = 0.25  # share of ended rows at which the batch is made smaller; doing so copies the cache


class EagerSampler:
    """Samples continuations of batches that have been read.

    Args:
        decoder: the transformers decoder, for models that `step` does not fit.
        step: the same in fewer operations, where there is one. With an adapter, a step of SmolLM2-135M for 26 rows took
            two cores 94 ms by transformers and 70 ms by this, and one for a single row 62 and 35 ms.
        policy: log-probabilities float32 [rows, vocabulary] of hidden states [rows, width] at a temperature.
        draw: a token of each row of these, by uniforms float64 [rows].
        ends: bool [vocabulary], which tokens end a text.
    """

    def __init__(self, decoder: Any, step: LlamaStep | None, policy: Policy, draw: Draw, ends: Tensor) -> None:
        self._decoder, self._step = decoder, step
        self._policy, self._draw, self._ends = policy, draw, ends

    def sample(self, prompts: Prompts, *, temperature: float, uniforms: Tensor) -> Outputs:
        """Continue a batch until every row has ended or `uniforms` has no more columns.

        Args:
            prompts: their cache has room for as many tokens as there are columns, and is used up.
            uniforms: float64 [rows, longest output] from [0, 1).

        Returns:
            For each row its (token, log-probability) pairs, the end token included where the row ended by itself.
        """
        if self._step is not None:
            self._step.follow_adapters()
        state, cache = prompts.state, prompts.cache
        rows = torch.arange(len(state), device=state.device)
        columns = torch.arange(cache.get_seq_length(), device=state.device)[None]
        visible = columns < prompts.used[:, None]  # of its own tokens; the shared ones always are
        outputs: Outputs = [[] for _ in rows]
        ended = torch.zeros_like(rows, dtype=torch.bool)
        for step in range(uniforms.shape[1]):
            logprobs = self._policy(state, temperature)
            drawn = self._draw(logprobs, uniforms[rows, step])
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
            position = prompts.shared + visible.sum(1)
            visible = torch.nn.functional.pad(visible, (0, 1), value=True)
            state = self._next_state(drawn, position, visible, prompts)
        return outputs

    def _next_state(self, tokens: Tensor, positions: Tensor, visible: Tensor, prompts: Prompts) -> Tensor:
        """Last hidden states [rows, width] after one further token of each row, which goes into the cache.

        Args:
            visible: bool [rows, own tokens with this one].
        """
        cache, prefix = prompts.cache, prompts.prefix
        if self._step is None:
            states: Tensor = self._decoder(
                input_ids=tokens[:, None],
                attention_mask=visible.long(),
                position_ids=positions[:, None],
                past_key_values=cache,
                use_cache=True,
                shared_prefix=prefix,
            ).last_hidden_state
            return states[:, 0]
        bias = shared_attention.bias_of(visible[:, None, None], prompts.state.dtype)

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            own = Keys(*cache.layers[layer].update(key[:, :, None], value[:, :, None]))
            before = Keys(prefix.layers[layer].keys, prefix.layers[layer].values) if prefix is not None else None
            return shared_attention.one_token(query[:, :, None], own, before, bias)[:, :, 0]

        return self._step(tokens, positions, attend)
