"""A tiny random Llama with a real tokenizer: for what does not depend on what the words mean."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEXT = [
    "You are Explorer, an account on X. Reply to @ada in one sentence. Write a post about trams and bridges.",
    "Yes No yes no. Does this post touch on a newsworthy topic? The council voted for more trams this morning.",
    "A good problem to have is one that somebody else has solved before; does the crust change with the wood?",
]


def save_tiny_model(directory: Path, *, seed: int = 0, extra_rows: int = 3) -> Path:
    """Write a model of some 50,000 parameters. `extra_rows` of its embedding belong to no token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT * 3, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", bos_token="<|im_start|>", pad_token="<|im_end|>",
        additional_special_tokens=["<|endoftext|>", "<repo_name>"],
    )  # fmt: skip
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(directory)
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(fast) + extra_rows,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=2048,
            initializer_range=0.2,
            eos_token_id=fast.eos_token_id,
            pad_token_id=fast.pad_token_id,
            tie_word_embeddings=True,
        )
    )
    model.save_pretrained(directory)
    return directory


def save_adapter(
    directory: Path, base: Path, *, seed: int, modules: tuple[str, ...] = ("q_proj", "v_proj"), rank: int = 4
) -> Path:
    """Write a random LoRA adapter that changes what the model says."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM.from_pretrained(base)
    adapted = get_peft_model(model, LoraConfig(r=rank, lora_alpha=8, target_modules=list(modules)))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    adapted.save_pretrained(directory)
    return directory
