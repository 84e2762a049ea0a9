"""TRL as a contender: its own trainers, fed with accord's token ids.

trl           as it comes: only use_cpu, batch, learning rate and β are set. On CPU that means bf16 autocast,
              gradient checkpointing and a live reference.
trl-matched   accord's settings: fp32, no checkpointing, reference log-probs precomputed, no warm-up.
trl-patched   matched, and its head told to skip unscored positions, which it otherwise does on CUDA only.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, TrainerCallback

from accord.lm.model.adapters import add_lora
from accord.lm.model.load import load
from accord.lm.model.lora import Lora
from accord.lm.model.scalar_head import ScalarHead
from accord.train.loop.memory import in_use, peak, reset_peak
from benchmarks.cases import CASES, rows_of
from benchmarks.worker import batch_of, four_answers

__all__ = ["run_trl"]


class Clock(TrainerCallback):
    """Seconds of each step, from its first forward pass to after the optimiser."""

    def __init__(self, device: str) -> None:
        self.seconds: list[float] = []
        self.began = 0.0
        self.device = torch.device(device)

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self.began = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.seconds.append(time.perf_counter() - self.began)
        if len(self.seconds) == 1:
            reset_peak(self.device)


def _trainer(method: str) -> tuple[type, type]:
    """TRL's trainer and config for a method."""
    if method in ("dpo", "ipo"):
        from trl import DPOConfig, DPOTrainer

        return DPOTrainer, DPOConfig
    if method == "kto":
        from trl import KTOConfig, KTOTrainer

        return KTOTrainer, KTOConfig
    if method == "orpo":
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer

        return ORPOTrainer, ORPOConfig
    if method == "simpo":
        from trl.experimental.cpo import CPOConfig, CPOTrainer

        return CPOTrainer, CPOConfig
    from trl import RewardConfig, RewardTrainer

    return RewardTrainer, RewardConfig


HYPER: dict[str, dict[str, Any]] = {
    "dpo": {"beta": 0.1},
    "ipo": {"beta": 0.1, "loss_type": "ipo"},
    "kto": {"beta": 0.1},
    "orpo": {"beta": 0.1},
    "simpo": {"beta": 2.0, "simpo_gamma": 1.0, "loss_type": "simpo", "cpo_alpha": 0.0},
}


def _fed(trainer: type, method: str) -> type:
    """The trainer with its data preparation replaced by rows of ids, in the order given."""

    class Fed(trainer):  # type: ignore[misc, valid-type]
        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset

        def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

        def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:
            """Rows of ORPO and SimPO: sequences with the prompt's labels masked."""
            row: dict[str, Any] = {}
            prompt = feature["prompt_ids"]
            row["prompt_input_ids"], row["prompt_attention_mask"] = prompt, [1] * len(prompt)
            for side in ("chosen", "rejected"):
                ids = prompt + feature[f"{side}_ids"]
                row[f"{side}_input_ids"], row[f"{side}_attention_mask"] = ids, [1] * len(ids)
                row[f"{side}_labels"] = [-100] * len(prompt) + feature[f"{side}_ids"]
            return row

        def concatenated_forward(self, *args: Any, **kwargs: Any) -> Any:
            """ORPO's SFT term over the completion, as accord defines it: TRL's covers the prompt too."""
            found = super().concatenated_forward(*args, **kwargs)
            return (*found[:4], -found[0].mean(), *found[5:]) if method == "orpo" else found

    return Fed


def _rows(args: argparse.Namespace, tokenizer: Any) -> Dataset:
    """The rows in the columns that the trainer's collator reads."""
    case = CASES[args.case]
    rows = rows_of(case, tokenizer, batch_of(args) * (args.steps + 1))
    if args.method == "kto":
        flat = [(p, a, good) for p, c, r in rows for a, good in ((c, True), (r, False))]
        size = 2 * batch_of(args)
        other = [flat[i - 1 if i % size else i + size - 1][1] for i in range(len(flat))]
        columns = [
            {"prompt_ids": p, "completion_ids": a, "KL_completion_ids": k, "label": good}
            for (p, a, good), k in zip(flat, other, strict=True)
        ]
    elif args.method == "reward":
        columns = [{"chosen_ids": p + c, "rejected_ids": p + r} for p, c, r in rows]
    elif args.method == "reward_k4":
        columns = [
            {"chosen_ids": p + a[i], "rejected_ids": p + a[j]}
            for p, a in four_answers(rows)
            for i in range(4)
            for j in range(i + 1, 4)
        ]
    else:
        plain = args.method not in ("orpo", "simpo")  # those two want texts as well, and use none
        text = {} if plain else {"prompt": "p", "chosen": "c", "rejected": "r"}
        columns = [{"prompt_ids": p, "chosen_ids": c, "rejected_ids": r} | text for p, c, r in rows]
    return Dataset.from_list(columns)


def _model(args: argparse.Namespace, lm: Any) -> Any:
    """The same weights, heads and adapters as accord's; the adapters with peft's own forward."""
    if args.method.startswith("reward"):
        model = AutoModelForSequenceClassification.from_pretrained(
            lm.path, num_labels=1, dtype=torch.float32
        )
        with torch.no_grad():
            model.score.weight.copy_(ScalarHead(model.config.hidden_size, 17).weight[None])
        model.config.pad_token_id = 0
    else:
        model = AutoModelForCausalLM.from_pretrained(lm.path, dtype=torch.float32)
    if args.tune == "lora":
        model = add_lora(model, Lora(), 17)
        for module in model.modules():
            module.__dict__.pop("forward", None)
        if args.method.startswith("reward"):
            model.base_model.model.score.requires_grad_(True)
    return model


def _config(args: argparse.Namespace, kind: type, batch: int, folder: str) -> Any:
    """The trainer's arguments: as they come, or matched to accord's."""
    chosen: dict[str, Any] = {
        "output_dir": folder, "per_device_train_batch_size": batch, "max_steps": args.steps + 1,
        "learning_rate": 1e-5, "use_cpu": args.device == "cpu", "report_to": [], "logging_steps": 1,
        "save_strategy": "no", "disable_tqdm": True,
        "lr_scheduler_type": "constant", "warmup_steps": 0, "max_length": None, **HYPER.get(args.method, {}),
    }  # fmt: skip
    if args.contender != "trl":
        chosen |= {
            "bf16": args.precision == "bf16",
            "gradient_checkpointing": False,
            "max_grad_norm": 1.0,
        }
        if args.method in ("dpo", "ipo", "kto"):
            chosen["precompute_ref_log_probs"] = True
    if args.method in ("orpo", "simpo"):
        chosen["max_length"] = 4096
    return kind(**chosen)


def run_trl(args: argparse.Namespace) -> dict[str, Any]:
    """One of TRL's trainers over the case's rows."""
    if args.contender == "trl-patched":
        import trl.trainer.utils

        trl.trainer.utils._use_triton = lambda device: True  # type: ignore[attr-defined]
    lm = load(args.model, device="cpu")
    tokenizer = lm.tokenizer
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)
    per = {"kto": 2, "reward_k4": 6}.get(args.method, 1)
    trainer, kind = _trainer(args.method)
    clock = Clock(args.device)
    model = _model(args, lm)
    lm.model = None
    with tempfile.TemporaryDirectory() as folder:
        config = _config(args, kind, batch_of(args) * per, folder)
        made = _fed(trainer, args.method)(
            model=model, args=config, train_dataset=_rows(args, tokenizer), processing_class=tokenizer,
            callbacks=[clock],
        )  # fmt: skip
        base = in_use(clock.device)
        made.train()
        losses = [row["loss"] for row in made.state.log_history if "loss" in row]
    return {
        "steps": [{"s": s, "loss": x} for s, x in zip(clock.seconds, losses, strict=True)],
        "per_step": batch_of(args) * {"reward_k4": 6}.get(args.method, 1),
        "peak": peak(clock.device),
        "base": base,
    }
