"""One more token of a Llama for every row of a batch, in as few kernels as torch alone allows.

What transformers does in a step is right and is some fifty operations a layer with an adapter on q, k and v; the same
sums are fourteen kernels a layer on an H100. Products with the same input are one product, the residual is added by the
product that makes it, an adapter's matrices of all its modules are two. Every tensor stays where it is from one step to
the next, so that a step can be captured as a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import rotate_half

from app.policy.packed_weights import PackedLinear

# Attention of one query per row to its own keys: query [rows, heads, width], layer -> [rows, heads, width].
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


def fits(model: Any) -> bool:
    """Whether a model is one that `LlamaStep` computes: of Llama's kind, without biases."""
    config = model.config
    biases = [getattr(config, name, False) for name in ("attention_bias", "mlp_bias")]
    return config.model_type == "llama" and config.hidden_act == "silu" and not any(biases)


class LlamaStep:
    """The decoder of a transformers Llama, its weights shared with it.

    Attributes:
        heads, kv_heads, head_width, layers: the model's numbers.
    """

    def __init__(self, decoder: Any, config: Any) -> None:
        self.heads: int = config.num_attention_heads
        self.kv_heads: int = config.num_key_value_heads
        self.head_width: int = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.layers = len(decoder.layers)
        self._decoder = decoder
        self._eps: float = config.rms_norm_eps
        weight = decoder.embed_tokens.weight
        self._layers = [_Layer(layer, weight) for layer in decoder.layers]
        self._adapters: tuple[tuple[str, int], ...] = ()
        positions = torch.arange(config.max_position_embeddings, device=weight.device)[None]
        cos, sin = decoder.rotary_emb(weight[:1, None], positions)
        self._cos, self._sin = cos[0], sin[0]
        self._unit = torch.eye(self.head_width, dtype=weight.dtype, device=weight.device)
        self._rotate_half: Tensor = rotate_half(self._unit)  # type: ignore[no-untyped-call]

    def follow_adapters(self) -> bool:
        """Take over the adapters that take part in the transformers model now, where they are not those of before.

        Returns:
            Whether tensors were replaced by larger ones: what was captured before is of no use then.
        """
        before, self._adapters = self._adapters, self._taking_part()
        if self._adapters == before:
            return False
        replaced = [group.adopt() for layer in self._layers for group in layer.groups]  # all of them
        return any(replaced)

    def _taking_part(self) -> tuple[tuple[str, int], ...]:
        """The adapters that do, from the bottom up: names, and how often the tensors of each were written, because one
        adapter may have been put in the place of another.
        """
        modules = [module for layer in self._layers for module in layer.lora_modules()]
        return tuple((name, _version(modules, name)) for name in (_active(modules[0]) if modules else ()))

    def __call__(self, tokens: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """Last hidden states [rows, width] of one further token of each row.

        Args:
            tokens: int64 [rows].
            positions: int64 [rows], of these tokens.
            attend: takes the layer's number, and its query, key and value [rows, heads or kv heads, head width]; keeps
                the latter two, and returns what the query attends to, [rows, heads, head width].
        """
        hidden = nn.functional.embedding(tokens, self._decoder.embed_tokens.weight)
        # Each row's rotation as a matrix, x · cos + rotate_half(x) · sin: one product a layer, not four kernels.
        cos, sin = self._cos[positions][:, None], self._sin[positions][:, None]
        rotations = torch.addcmul(cos * self._unit, sin, self._rotate_half)
        turned = self.heads + self.kv_heads
        for number, layer in enumerate(self._layers):
            states = self._norm(hidden, layer.before_attention)
            parts = layer.attention_in(states).view(len(tokens), -1, self.head_width)
            query_key, value = parts[:, :turned], parts[:, turned:]
            query_key = torch.bmm(query_key, rotations)
            mixed = attend(number, query_key[:, : self.heads], query_key[:, self.heads :], value)
            layer.attention_out.add_to(hidden, mixed.reshape(len(tokens), -1))
            states = self._norm(hidden, layer.before_mlp)
            gate, up = layer.mlp_in(states).chunk(2, dim=-1)
            layer.mlp_out.add_to(hidden, nn.functional.silu(gate).mul_(up))
        return self._norm(hidden, self._decoder.norm)

    def _norm(self, hidden: Tensor, norm: Any) -> Tensor:
        return nn.functional.rms_norm(hidden, (hidden.shape[-1],), norm.weight, self._eps)


class _Layer:
    """The products of a decoder layer, in groups with the same input.

    Args:
        like: a tensor of the model's device and number format.
    """

    def __init__(self, layer: Any, like: Tensor) -> None:
        self.before_attention, self.before_mlp = layer.input_layernorm, layer.post_attention_layernorm
        self.attention_in = _Products(layer.self_attn, ("q_proj", "k_proj", "v_proj"), like)
        self.attention_out = _Products(layer.self_attn, ("o_proj",), like)
        self.mlp_in = _Products(layer.mlp, ("gate_proj", "up_proj"), like)
        self.mlp_out = _Products(layer.mlp, ("down_proj",), like)
        self.groups = (self.attention_in, self.attention_out, self.mlp_in, self.mlp_out)

    def lora_modules(self) -> Iterator[Any]:
        return (module for group in self.groups for module in group.modules() if hasattr(module, "lora_A"))


class _Products:
    """Linear layers with the same input as one product, and their adapters as two.

    The layers' weights become views of the one, so that nothing is in memory twice. Packed ones cannot be joined and
    are multiplied by in turn.
    """

    def __init__(self, parent: Any, names: Sequence[str], like: Tensor) -> None:
        self._parent, self._names = parent, names
        self._plain = self.modules()
        self._outs = [layer.out_features for layer in self._plain]
        self._weight = None if isinstance(self._plain[0], PackedLinear) else self._joined()
        self._down = like.new_empty(0, self._plain[0].in_features)  # [ranks, in]
        self._up = like.new_empty(0, sum(self._outs))  # [ranks, out]

    def _joined(self) -> Tensor:
        weights = [layer.weight.detach() for layer in self._plain]
        weight = torch.cat(weights) if len(weights) > 1 else weights[0]
        for layer, part in zip(self._plain, weight.split(self._outs), strict=True):
            layer.weight = nn.Parameter(part, requires_grad=False)
        return weight

    def modules(self) -> list[Any]:
        """The layers at present: PEFT puts others in their place."""
        return [getattr(self._parent, name) for name in self._names]

    def adopt(self) -> bool:
        """Take over the adapters of these layers; whether that took larger tensors."""
        downs, ups, at = [self._down[:0]], [self._up[:0]], 0
        for module, out in zip(self.modules(), self._outs, strict=True):
            for name in _active(module):
                if name in getattr(module, "lora_A", {}):
                    down, up = module.lora_A[name].weight.detach(), module.lora_B[name].weight.detach()
                    wide = self._up.new_zeros(len(down), self._up.shape[1])
                    wide[:, at : at + out] = (up * module.scaling[name]).T
                    downs.append(down.to(self._down.dtype))
                    ups.append(wide)
            at += out
        down, up = torch.cat(downs), torch.cat(ups)
        if len(down) > len(self._down):
            self._down, self._up = down, up
            return True
        # A smaller stack leaves rows of zeros: one draft in twenty is the reference's, and its turn must cost nothing.
        self._down.zero_()[: len(down)] = down
        self._up.zero_()[: len(up)] = up
        return False

    def __call__(self, states: Tensor) -> Tensor:
        """[rows, in] -> [rows, all outs]."""
        return self._adapted(self._product(states), states)

    def add_to(self, residual: Tensor, states: Tensor) -> None:
        """Add the product to a residual [rows, out], in place."""
        if self._weight is None:
            residual += self._product(states)
        else:
            residual.addmm_(states, self._weight.T)
        self._adapted(residual, states)

    def _product(self, states: Tensor) -> Tensor:
        if self._weight is not None:
            return states @ self._weight.T
        parts = [layer(states) for layer in self._plain]
        return torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]

    def _adapted(self, found: Tensor, states: Tensor) -> Tensor:
        return found.addmm_(states @ self._down.T, self._up) if len(self._down) else found


def _version(modules: Sequence[Any], name: str) -> int:
    """How often an adapter's tensors were written."""
    return next((module.lora_A[name].weight._version for module in modules if name in module.lora_A), 0)


def _active(module: Any) -> tuple[str, ...]:
    """Names of the adapters that take part in a module."""
    if not hasattr(module, "lora_A") or module.disable_adapters:
        return ()
    return tuple(module.active_adapters)
