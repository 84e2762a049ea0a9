"""accord against TRL on a GPU: random weights in the shape of Qwen2 0.5B or 7B, vocabulary 152k.

    python -m benchmarks.gpu --shape 0.5b
    python -m benchmarks.gpu --shape 7b --tune lora

Trees of 4096 tokens. What else is given goes to `benchmarks.preference_vs_trl`;
`--shape tiny --device cpu --case short21` tries the command itself where there is no GPU.
"""

from __future__ import annotations

import argparse
import tempfile
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from accord.lm.model.load import load
from benchmarks.preference_vs_trl import main as against_trl
from benchmarks.worker import MODEL

SHAPES: dict[str, dict[str, Any]] = {
    "0.5b": {
        "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
        "num_key_value_heads": 2, "vocab_size": 151_936, "tie_word_embeddings": True,
    },
    "7b": {
        "hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "vocab_size": 152_064, "tie_word_embeddings": False,
    },
    "tiny": {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 49_152, "tie_word_embeddings": True,
    },
}  # fmt: skip


def main() -> None:
    """Write a model of the shape asked for and run the comparison on it."""
    parser = argparse.ArgumentParser(description="accord against TRL on a GPU")
    parser.add_argument("--shape", choices=SHAPES, default="0.5b")
    parser.add_argument("--case", default="long21")
    parser.add_argument("--device", default="cuda")
    args, more = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(17)
        config = Qwen2Config(**SHAPES[args.shape], max_position_embeddings=8192)
        Qwen2ForCausalLM(config).save_pretrained(folder)
        load(MODEL, device="cpu").tokenizer.save_pretrained(folder)  # rows are ids below 40,000
        same = ["--case", args.case, "--device", args.device, "--tokens", "8192", "--model", folder]
        against_trl([*same, *more])


if __name__ == "__main__":
    main()
