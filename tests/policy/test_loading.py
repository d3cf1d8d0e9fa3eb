"""A base model in memory. On a GPU, torch's norms in place of transformers': the same model, the same way back."""

from __future__ import annotations

import torch
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from app.policy.loading import fuse_norms


def test_a_model_says_what_it_said_and_its_gradients_are_what_they_were(tiny_directory):
    tokens, outcomes = torch.arange(10, 40)[None], []
    for fuse in (lambda model: None, fuse_norms):
        model = AutoModelForCausalLM.from_pretrained(tiny_directory, dtype=torch.float32).eval()
        with torch.no_grad():
            for module in model.modules():
                if type(module) is LlamaRMSNorm:
                    torch.manual_seed(1)
                    module.weight.copy_(torch.rand_like(module.weight) + 0.5)
        fuse(model)
        logits = model(tokens).logits
        logits.square().mean().backward()
        outcomes.append([logits.detach(), *(parameter.grad for parameter in model.parameters())])
    for plain, fused in zip(*outcomes, strict=True):
        assert torch.allclose(plain, fused, atol=1e-5, rtol=1e-4)


def test_every_norm_is_replaced_and_no_weight_is_copied(tiny_directory):
    model = AutoModelForCausalLM.from_pretrained(tiny_directory).eval()
    before = {name: parameter.data_ptr() for name, parameter in model.named_parameters()}
    fuse_norms(model)
    assert {name: parameter.data_ptr() for name, parameter in model.named_parameters()} == before
    norms = [module for module in model.modules() if isinstance(module, nn.RMSNorm)]
    assert len(norms) == 2 * model.config.num_hidden_layers + 1
    assert not any(isinstance(module, LlamaRMSNorm) for module in model.modules())
