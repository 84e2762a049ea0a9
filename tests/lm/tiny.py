"""Tiny random models and tokenizers, built in the test from configs: nothing is downloaded.

A byte-level BPE of about 400 tokens trained on a few sentences, and six architectures with two
layers of width 32. Random weights are enough: what the lm layer promises (same tokens, same
log-probs, same masks) holds for any weights.
"""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

torch.set_num_threads(1)  # tiny kernels gain nothing, and waiting threads starve shared machines

SPECIAL = ["<|pad|>", "<|im_start|>", "<|im_end|>", "<bos>"]

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

TEXTS = [
    "The warranty on a Harbor & Pine tent is 24 months from the day of delivery.",
    "You can send an unused jacket back within 45 days for a full refund.",
    "I am sorry, I can't change an order after it has left the warehouse.",
    "How long do I have to return my boots? What does shipping to Norway cost?",
    "user\nassistant\nsystem\nYou are a helpful assistant of an outdoor shop.\n",
    "The quick brown fox jumps over the lazy dog and the dog does not mind at all.",
    "User: where is my parcel?\n\nAssistant: it is on its way and arrives on Tuesday.\n\n",
]

ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "gpt_neox")

_CLASSES = {
    "llama": ("LlamaConfig", "LlamaForCausalLM"),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM"),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM"),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM"),
    "gemma3_text": ("Gemma3TextConfig", "Gemma3ForCausalLM"),
    "gpt_neox": ("GPTNeoXConfig", "GPTNeoXForCausalLM"),
}


@cache
def _trained(vocab_size: int) -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return str(tokenizer.to_str())


def tiny_tokenizer(
    chat_template: str | None = CHATML, *, vocab_size: int = 400, **special: Any
) -> PreTrainedTokenizerFast:
    """Byte-level BPE with ChatML specials; `chat_template=None` gives a tokenizer without one."""
    names = {"eos_token": "<|im_end|>", "pad_token": "<|pad|>", **special}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained(vocab_size)), **names
    )
    tokenizer.chat_template = chat_template
    return tokenizer


def tiny_config(arch: str, *, vocab_size: int = 400, **overrides: Any) -> Any:
    """The config of a two-layer model of width 32 of architecture `arch`."""
    settings: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,  # the default 0.02 makes nearly flat, uninformative logits
        "bos_token_id": None,
        "eos_token_id": SPECIAL.index("<|im_end|>"),
        "pad_token_id": SPECIAL.index("<|pad|>"),
    }
    if arch in ("gemma2", "gemma3_text"):
        settings |= {"sliding_window": 8, "query_pre_attn_scalar": 8}
        settings["layer_types"] = ["sliding_attention", "full_attention"]
    if arch == "gpt_neox":
        settings.pop("num_key_value_heads")
        settings.pop("head_dim")
    settings |= overrides
    return getattr(transformers, _CLASSES[arch][0])(**settings)


def tiny_model(
    arch: str = "llama", *, seed: int = 0, vocab_size: int = 400, **overrides: Any
) -> Any:
    """A random causal LM in eval mode, fp32; SDPA attention, but eager for gemma2 (soft caps)."""
    config = tiny_config(arch, vocab_size=vocab_size, **overrides)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, _CLASSES[arch][1])(copy.deepcopy(config))
    model.generation_config.eos_token_id = config.eos_token_id
    model.generation_config.pad_token_id = config.pad_token_id
    return model.eval()


def gpt_neo(window: int) -> Any:
    """A GPT-Neo whose second layer sees the last `window` rows only."""
    config = transformers.GPTNeoConfig(
        vocab_size=400, hidden_size=32, num_layers=2, num_heads=4, intermediate_size=64,
        attention_types=[[["global", "local"], 1]], window_size=window, initializer_range=0.2,
        bos_token_id=None, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.GPTNeoForCausalLM(config)
    return model.eval()
