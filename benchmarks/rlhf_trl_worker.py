"""TRL's GRPO (1.16) or experimental PPO (1.8, the last that had it): figures of one run as JSON.

Imports nothing of accord, so that it also runs in an environment of its own with that older TRL:

    python benchmarks/rlhf_trl_worker.py ppo --model FOLDER --prompts FILE --steps 3

Every answer is `--new` tokens long: min_new_tokens for GRPO, no stop token for PPO.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
)

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")


def peak_bytes() -> int:
    """Largest resident size since the process began."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) * 1024 for x in lines if x.startswith("VmHWM"))


class Clock(TrainerCallback):
    """When each step ended."""

    def __init__(self) -> None:
        self.at = [time.perf_counter()]

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.at.append(time.perf_counter())


def matched(args: argparse.Namespace) -> dict[str, Any]:
    """fp32 without recomputation; or whatever the library's defaults are."""
    return {} if args.as_it_comes else {"bf16": False, "gradient_checkpointing": False}


def adapters(args: argparse.Namespace) -> Any:
    """The LoRA that accord trains by default, or None for all weights."""
    if args.tune == "full":
        return None
    from peft import LoraConfig

    return LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")


def grpo(args: argparse.Namespace, prompts: list[Any], tokenizer: Any, clock: Clock) -> None:
    """Two prompts × four answers a step by default; the reward is an answer's share of vowels."""
    from trl import GRPOConfig, GRPOTrainer

    config = GRPOConfig(
        output_dir=args.out, use_cpu=True, per_device_train_batch_size=args.batch * args.n,
        num_generations=args.n, max_completion_length=args.new, max_steps=args.steps, learning_rate=1e-6,
        beta=0.05, num_iterations=1, report_to=[], **matched(args), logging_steps=1,
        save_strategy="no", disable_tqdm=True, lr_scheduler_type="constant",
        generation_kwargs={"min_new_tokens": args.new},
    )  # fmt: skip

    def vowels(completions: list[Any], **_: Any) -> list[float]:
        completions = [x[0]["content"] for x in completions]
        return [sum(c in "aeiou" for c in x) / max(1, len(x)) for x in completions]

    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32),
        reward_funcs=vowels, args=config, processing_class=tokenizer, callbacks=[clock],
        peft_config=adapters(args),
        train_dataset=Dataset.from_list([{"prompt": p} for p in prompts * 50]),
    )  # fmt: skip
    clock.at = [time.perf_counter()]
    trainer.train()


def ppo(args: argparse.Namespace, prompts: list[Any], tokenizer: Any, clock: Clock) -> None:
    """Four prompts × 64 tokens a step by default, four full models."""
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    config = PPOConfig(
        output_dir=args.out, use_cpu=True, per_device_train_batch_size=args.batch,
        gradient_accumulation_steps=1, num_mini_batches=args.minibatches, num_ppo_epochs=args.epochs,
        response_length=args.new, total_episodes=args.batch * args.steps, learning_rate=1e-6, kl_coef=0.05,
        stop_token=None, temperature=1.0, local_rollout_forward_batch_size=args.batch, report_to=[],
        **matched(args), save_strategy="no", disable_tqdm=True, lr_scheduler_type="constant",
        num_sample_generations=0, missing_eos_penalty=None,
    )  # fmt: skip
    scored = [
        AutoModelForSequenceClassification.from_pretrained(
            args.model, num_labels=1, dtype=torch.float32
        )
        for _ in range(2)
    ]
    policies = [
        AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
        for _ in range(2 if args.tune == "full" else 1)
    ]
    rows = [
        {
            "input_ids": tokenizer.apply_chat_template(
                p, add_generation_prompt=True, return_dict=False
            )
        }
        for p in prompts * 50
    ]
    trainer = PPOTrainer(
        args=config, processing_class=tokenizer, model=policies[0], peft_config=adapters(args),
        ref_model=policies[-1] if args.tune == "full" else None,
        reward_model=scored[0], value_model=scored[1], train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(rows[: args.batch]), callbacks=[clock],
    )  # fmt: skip
    clock.at = [time.perf_counter()]
    trainer.train()


def main() -> None:
    """Run one method and print its figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("method", choices=["grpo", "ppo"])
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--n", type=int, default=4)
    parser.add_argument("--new", type=int, default=32)
    parser.add_argument("--tune", choices=["full", "lora"], default="full")
    parser.add_argument("--as-it-comes", action="store_true")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--minibatches", type=int, default=1)
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.model, padding_side="left")
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)
    clock = Clock()
    with tempfile.TemporaryDirectory() as args.out:
        run = {"grpo": grpo, "ppo": ppo}[args.method]
        run(args, json.loads(args.prompts.read_text()), tokenizer, clock)
    seconds = [b - a for a, b in zip(clock.at, clock.at[1:], strict=False)]
    print(json.dumps({"steps": seconds, "peak": peak_bytes()}))


if __name__ == "__main__":
    main()
