"""llama.cpp writing many texts at once: one context, a sequence per text, what their prompts begin with read once.

What llama.cpp's own example `parallel` does, by its C functions as llama-cpp-python hands them on: the common beginning
is decoded in one sequence and shared by the others, then each step decodes the next token of every text that has not
ended.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from benchmarks.row import BenchmarkError

TOP_K = 40  # llama.cpp's own default, and faster than to draw from the whole vocabulary
SHARED = 0  # the sequence that holds the common beginning


class LlamaCpp:
    """A model in GGUF, and a context in which up to `together` texts are written at once."""

    def __init__(self, file: Path, *, threads: int, together: int, longest: int) -> None:
        """
        Args:
            longest: tokens of a prompt and its text.
        """
        import llama_cpp  # type: ignore[import-not-found]  # it lies apart, for this row alone

        self._c: Any = llama_cpp
        self._c.llama_backend_init()
        loading = self._c.llama_model_default_params()
        # Repacked for AMX, the version of benchmarks/rows/writing.py crashes at its first token, whoever calls it.
        loading.use_extra_bufts = False
        self._model = self._c.llama_model_load_from_file(os.fsencode(file), loading)
        options = self._c.llama_context_default_params()
        options.n_ctx = longest * (together + 1)
        options.n_seq_max = together + 1
        options.n_threads = options.n_threads_batch = threads
        options.kv_unified = (
            True  # a common beginning stands once; with a cache for each, 16 at once took 1.4 times as long
        )
        self._room = options.n_batch
        self._context = self._c.llama_init_from_model(self._model, options)
        if not self._model or not self._context:
            raise BenchmarkError(f"llama.cpp did not load {file}")
        self._memory = self._c.llama_get_memory(self._context)
        self._batch = self._c.llama_batch_init(self._room, 0, 1)
        self._together = together

    def write(
        self, prompts: Sequence[Sequence[int]], *, most: int, temperature: float, seed: int, ends: Collection[int]
    ) -> list[list[int]]:
        """The tokens of a text for each prompt, that which ended it among them."""
        chain = self._c.llama_sampler_chain_init(self._c.llama_sampler_chain_default_params())
        for sampler in (
            self._c.llama_sampler_init_top_k(TOP_K),
            self._c.llama_sampler_init_temp(temperature),
            self._c.llama_sampler_init_dist(seed),
        ):
            self._c.llama_sampler_chain_add(chain, sampler)
        shared = min(map(len, prompts)) - 1
        while any(prompt[:shared] != prompts[0][:shared] for prompt in prompts):
            shared -= 1
        texts: list[list[int]] = []
        for first in range(0, len(prompts), self._together):
            texts += self._group(prompts[first : first + self._together], shared, most, chain, ends)
        self._c.llama_sampler_free(chain)
        return texts

    def _group(
        self, prompts: Sequence[Sequence[int]], shared: int, most: int, chain: Any, ends: Collection[int]
    ) -> list[list[int]]:
        self._c.llama_memory_clear(self._memory, True)
        self._decode([(token, at, SHARED, False) for at, token in enumerate(prompts[0][:shared])], chain)
        for sequence in range(1, len(prompts) + 1):
            self._c.llama_memory_seq_cp(self._memory, SHARED, sequence, -1, -1)
        own = [
            (token, at, sequence, at == len(prompt) - 1)
            for sequence, prompt in enumerate(prompts, 1)
            for at, token in enumerate(prompt)
            if at >= shared
        ]
        texts = [[token] for token in self._decode(own, chain)]
        while alive := [i for i, text in enumerate(texts) if text[-1] not in ends and len(text) < most]:
            step = [(texts[i][-1], len(prompts[i]) + len(texts[i]) - 1, i + 1, True) for i in alive]
            for i, token in zip(alive, self._decode(step, chain), strict=True):
                texts[i].append(token)
        return texts

    def _decode(self, tokens: Sequence[tuple[int, int, int, bool]], chain: Any) -> list[int]:
        """Decode tokens: each its id, position, sequence, and whether the next is to be drawn. Returns those drawn."""
        drawn: list[int] = []
        for first in range(0, len(tokens), self._room):
            part = tokens[first : first + self._room]
            self._batch.n_tokens = len(part)
            for i, (token, position, sequence, wanted) in enumerate(part):
                self._batch.token[i], self._batch.pos[i], self._batch.logits[i] = token, position, wanted
                self._batch.n_seq_id[i], self._batch.seq_id[i][0] = 1, sequence
            if (code := self._c.llama_decode(self._context, self._batch)) != 0:
                raise BenchmarkError(f"llama_decode gave {code} for {len(part)} tokens")
            drawn += [
                self._c.llama_sampler_sample(chain, self._context, i) for i, (*_, wanted) in enumerate(part) if wanted
            ]
        return drawn

    def close(self) -> None:
        self._c.llama_batch_free(self._batch)
        self._c.llama_free(self._context)
        self._c.llama_model_free(self._model)
