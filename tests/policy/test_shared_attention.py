"""Attention in two parts is attention over the whole."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from app.policy import shared_attention
from app.policy.flash import Parts
from app.policy.shared_attention import Packed, attend

ROWS, HEADS, KEYS, WIDTH, BEFORE = 5, 6, 2, 16, 23
SCALING = WIDTH**-0.5


def parts(tokens: int, own: int):
    torch.manual_seed(tokens)
    query = torch.randn(ROWS, HEADS, tokens, WIDTH)
    key, value = torch.randn(2, ROWS, KEYS, own, WIDTH)
    before = SimpleNamespace(keys=torch.randn(1, KEYS, BEFORE, WIDTH), values=torch.randn(1, KEYS, BEFORE, WIDTH))
    return query, key, value, before


def whole(query, key, value, before, mask):
    keys, values = (
        torch.cat([first.expand(ROWS, -1, -1, -1), own], dim=2).repeat_interleave(HEADS // KEYS, dim=1)
        for first, own in ((before.keys, key), (before.values, value))
    )
    return scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=SCALING).transpose(1, 2)


def in_parts(query, key, value, before, mask):
    module = SimpleNamespace(layer_idx=0)
    prefix = SimpleNamespace(layers=[before])
    return attend(module, query, key, value, mask, scaling=SCALING, shared_prefix=prefix)[0]


@pytest.fixture(params=["fused", "explicit"])
def kernel(request, monkeypatch):
    """The kernel of a CPU, and the formula that other devices use."""
    if request.param == "explicit":

        def explicit(query, key, value, scaling, *, bias=None, causal=False):
            return shared_attention._explicit(query, key, value, scaling, bias=bias, causal=causal)

        monkeypatch.setattr(shared_attention, "_with_lse", explicit)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("tokens", [1, 2, 9])
def test_prompts_after_a_prefix(tokens):
    query, key, value, before = parts(tokens, own=tokens)
    mask = torch.ones(tokens, BEFORE + tokens, dtype=torch.bool).tril(BEFORE)
    assert torch.allclose(in_parts(query, key, value, before, None), whole(query, key, value, before, mask), atol=1e-5)


@pytest.mark.usefixtures("kernel")
def test_a_further_token_sees_the_prefix_and_what_is_visible_of_its_row():
    query, key, value, before = parts(tokens=1, own=8)
    visible = torch.arange(8)[None] < torch.tensor([1, 3, 8, 5, 2])[:, None]
    mask = torch.cat([torch.ones(ROWS, BEFORE, dtype=torch.bool), visible], dim=1)[:, None, None]
    got = in_parts(query, key, value, before, visible[:, None, None])
    assert torch.allclose(got, whole(query, key, value, before, mask), atol=1e-5)


@pytest.mark.parametrize("wanted", [{0, 1, 2, 3, 4}, {1}, {4}])
@pytest.mark.parametrize("piece", [7, 2**18])
def test_gradients_are_those_of_attention_over_the_whole(piece, wanted, monkeypatch):
    monkeypatch.setattr(shared_attention, "PIECE", piece)  # the pieces must not show
    query, key, value, before = parts(tokens=9, own=9)
    inputs = [query, key, value, before.keys, before.values]
    mask = torch.ones(9, BEFORE + 9, dtype=torch.bool).tril(BEFORE)
    towards = torch.randn(ROWS, 9, HEADS, WIDTH)
    found = []
    for attention, with_mask in ((in_parts, None), (whole, mask)):
        for i, tensor in enumerate(inputs):
            tensor.requires_grad_(i in wanted).grad = None
        (attention(query, key, value, before, with_mask) * towards).sum().backward()
        found.append([inputs[i].grad.clone() for i in wanted])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_packed_with_its_prefix_is_attention_of_both():
    query, key, value, before = parts(tokens=9, own=9)
    first = torch.randn(1, HEADS, BEFORE, WIDTH)
    row = Parts(*(
        torch.cat((early, own.transpose(0, 1).flatten(1, 2)[None]), dim=2).requires_grad_()
        for early, own in ((first, query), (before.keys, key), (before.values, value))
    ))  # fmt: skip
    towards = torch.randn(1, BEFORE + ROWS * 9, HEADS, WIDTH)
    module = SimpleNamespace(layer_idx=0, is_causal=True, num_key_value_groups=HEADS // KEYS)
    out, _ = attend(module, *row, None, scaling=SCALING, packed=Packed(BEFORE, ROWS))
    (out * towards).sum().backward()
    found = [part.grad.clone() for part in row]
    # The same by one mask over all tokens: the prefix sees itself, each row the prefix and itself.
    tokens = BEFORE + ROWS * 9
    sees = torch.zeros(tokens, tokens, dtype=torch.bool)
    sees[:, :BEFORE] = True
    for at in range(ROWS):
        span = slice(BEFORE + at * 9, BEFORE + (at + 1) * 9)
        sees[span, span] = True
    for part in row:
        part.grad = None
    wide = [part.repeat_interleave(HEADS // KEYS, dim=1) for part in row[1:]]
    theirs = scaled_dot_product_attention(row.query, *wide, attn_mask=sees.tril(), scale=SCALING).transpose(1, 2)
    assert torch.allclose(out, theirs, atol=1e-5)
    (theirs * towards).sum().backward()
    for ours, part in zip(found, row, strict=True):
        torch.testing.assert_close(ours, part.grad, rtol=1e-4, atol=1e-5)
