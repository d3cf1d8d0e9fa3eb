"""Packed weights: the same products, adapters on top as usual, and plain layers where packing does not pay."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_model import save_adapter
from torch import nn
from transformers import AutoModelForCausalLM

from app.config import ModelConfig
from app.policy.model import LanguageModel
from app.policy.packed_weights import Head, PackedLinear, pack, pays

# Where oneDNN has no such kernels `pays` is false and layers stay plain; the last test holds that on any processor.
has_kernels = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU has no bfloat16 kernels, so nothing is packed"
)


def tiny(directory: Path, dtype: torch.dtype) -> nn.Module:
    return AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).eval().requires_grad_(False)


def packed_layers(model: nn.Module) -> int:
    return sum(isinstance(module, PackedLinear) for module in model.modules())


@has_kernels
@pytest.mark.parametrize("rows", [1, 7, 300])
@pytest.mark.parametrize("bias", [False, True])
def test_a_packed_layer_multiplies_as_the_plain_one(rows, bias):
    plain = nn.Linear(96, 160, bias=bias, dtype=torch.bfloat16).requires_grad_(False)
    states = torch.randn(2, rows, 96, dtype=torch.bfloat16)
    assert torch.allclose(PackedLinear(plain)(states).float(), plain(states).float(), atol=0.02, rtol=0.01)


@has_kernels
@pytest.mark.parametrize(("dtype", "off"), [(torch.bfloat16, 0.1), (torch.float32, 1e-4)])
def test_a_packed_head_multiplies_as_the_plain_one(dtype, off):
    weight, states = torch.randn(512, 96, dtype=dtype), torch.randn(5, 96, dtype=dtype)
    packed, plain = (Head(weight, packed=packed)(states).float() for packed in (True, False))
    assert torch.allclose(packed, plain, atol=off, rtol=off / 10)
    assert torch.equal(plain, (states @ weight.T).float())


@has_kernels
def test_every_layer_of_the_decoder_is_packed_and_the_model_says_what_it_said(tiny_directory):
    tokens = torch.arange(10, 40)[None]
    plain, packed = tiny(tiny_directory, torch.bfloat16), tiny(tiny_directory, torch.bfloat16)
    pack(packed)
    assert packed_layers(packed) == 7 * packed.config.num_hidden_layers
    with torch.inference_mode():
        assert torch.allclose(packed(tokens).logits.float(), plain(tokens).logits.float(), atol=0.05)


@has_kernels
def test_an_adapter_on_packed_layers_adds_what_it_adds_on_plain_ones(tiny_directory):
    models = [tiny(tiny_directory, torch.bfloat16) for _ in range(2)]
    pack(models[0])
    said = []
    for model in models:
        torch.manual_seed(7)
        adapted = get_peft_model(
            model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
        )
        with torch.inference_mode():
            said.append(adapted.eval()(torch.arange(10, 40)[None]).logits.float())
            with adapted.disable_adapter():
                unadapted = adapted(torch.arange(10, 40)[None]).logits.float()
        assert not torch.allclose(said[-1], unadapted, atol=0.05)
    assert torch.allclose(*said, atol=0.05)


@has_kernels
def test_the_resident_model_packs_and_swaps_adapters_on_it(tiny_directory, tmp_path):
    model = LanguageModel(ModelConfig(hf_repo_id=str(tiny_directory), device="cpu", dtype="bfloat16"))
    adapter = save_adapter(tmp_path / "adapter", tiny_directory, seed=3)
    prompts, outputs = [list(range(10, 40))], [[50, 51, 52]]
    before = model.score(prompts, outputs, 1.0)
    model.use([adapter])
    assert model.score(prompts, outputs, 1.0) != before
    model.use([])
    assert model.score(prompts, outputs, 1.0) == before


def test_float32_stays_plain(tiny_directory):
    model = tiny(tiny_directory, torch.float32)
    pack(model)
    assert packed_layers(model) == 0
    assert not pays(model.get_output_embeddings().weight)
