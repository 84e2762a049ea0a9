"""Runs of other trainers as the doctor's records: an output folder of TRL or LLaMA-Factory.

Read are trainer_state.json (of the folder, else of its last checkpoint), adapter_config.json, and the
arguments where they lie as JSON or YAML (LLaMA-Factory's training_args.yaml). TRL keeps its own as a pickle,
training_args.bin, which is never opened: what it would say (β) is the trainer's default then.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from accord.core.config import read_yaml
from accord.core.errors import DataError
from accord.core.rundir import user_path
from accord.pipeline.doctor.base import StageRecord
from accord.pipeline.doctor.reading import of_data

__all__ = ["of_folder"]

Row = dict[str, Any]
ARGUMENTS = ("training_args.json", "training_args.yaml", "training_args.yml")
TOKENS = 4 / 3  # a word
SAME = {"loss": "loss", "grad_norm": "grad_norm", "learning_rate": "lr", "step": "step"}
PREFERENCE = {"rewards/accuracies": "accuracy"}
SCALED = {  # β times nats of log-ratio
    "rewards/margins": "margin", "rewards/chosen": "chosen_shift", "rewards/rejected": "rejected_shift",
}  # fmt: skip
REWARD = {"accuracy": "accuracy", "margin": "margin"}
ONLINE = {
    "reward": "score", "objective/scores": "score", "objective/kl": "kl", "entropy": "entropy",
    "objective/entropy": "entropy", "completions/mean_length": "length", "completion_length": "length",
    "completions/clipped_ratio": "truncation_rate", "frac_reward_zero_std": "silent_groups",
    "clip_ratio/region_mean": "clip_fraction", "policy/clipfrac_avg": "clip_fraction",
}  # fmt: skip
READ = {"loss", "grad_norm", "learning_rate", *PREFERENCE, *SCALED, *REWARD, *ONLINE, "kl"}
STAGES = {"dpo": "preference", "kto": "preference", "rm": "reward", "ppo": "online", "sft": "sft"}


def of_folder(folder: Path, data: str | None = None) -> list[StageRecord]:
    """The records of a training by TRL or LLaMA-Factory, and of the data it read where that is given."""
    folder = user_path(folder)
    history, where = _history(folder)
    arguments = _arguments(folder)
    of = _kind(history, arguments)
    cases = of_data(data) if data else []
    log, wrong = _log(history, of, _beta(arguments))
    facts: Row = {"not finite": f"{where}: {wrong}"} if wrong else {}
    train = cases[0].train if cases else ()
    words = [len(p.chosen.text.split()) for g in train for p in g.pairs()]
    if words and of == "preference":
        log = [{**row, "chosen_tokens": TOKENS * sum(words) / len(words)} for row in log]
    record = StageRecord(folder.resolve().name, of, _config(of, arguments), log, facts)
    placed = replace(record, places=cases[0].places if cases else {})
    adapter = StageRecord(record.name, "adapter", facts=_base(folder, arguments))
    return [*cases, *([adapter] if adapter.facts else []), placed]


def _history(folder: Path) -> tuple[Sequence[Row], Path]:
    """log_history of the folder's trainer_state.json, or of that of its last checkpoint."""
    inside = sorted(
        folder.glob("checkpoint-*/trainer_state.json"),
        key=lambda p: int("0" + "".join(c for c in p.parent.name if c.isdigit())),
    )
    path = next((p for p in (folder / "trainer_state.json", *inside[::-1]) if p.is_file()), None)
    if path is None:
        allowed = (
            "the output folder of TRL or LLaMA-Factory, with trainer_state.json or checkpoint-N/"
        )
        raise DataError("no trainer_state.json", where=str(folder), allowed=allowed)
    try:
        history = json.loads(path.read_text(encoding="utf-8-sig"))["log_history"]
        assert isinstance(history, list)
        assert all(isinstance(row, dict) for row in history)
    except (ValueError, KeyError, TypeError, AssertionError, UnicodeDecodeError):
        raise DataError(
            "has no log_history", where=str(path), allowed="as a Trainer writes it"
        ) from None
    rows = [_numbers(row, f"{path} log_history[{k}]") for k, row in enumerate(history)]
    if not any(READ & row.keys() for row in rows):
        keys = ", ".join(sorted({k for row in rows for k in row})[:12]) or "no rows"
        what = f"logs nothing that the doctor reads: {keys}"
        raise DataError(what, where=str(path), allowed=", ".join(sorted(READ)))
    return rows, path


def _numbers(row: Mapping[str, Any], where: str) -> Row:
    """The row, what stands as text (`"loss": "0.69"`, as newer trainers log it) as the number it says;
    without what is null."""
    new = {k: v for k, v in row.items() if v is not None}
    for key in (READ | {"step", "eval_loss"}) & new.keys():
        try:
            assert not isinstance(new[key], bool)
            number = float(new[key])
        except (TypeError, ValueError, AssertionError):
            what = f"{key} is {new[key]!r}"
            raise DataError(what, where=where, allowed="a number") from None
        new[key] = int(number) if key == "step" and math.isfinite(number) else number
    return new


def _arguments(folder: Path) -> Row:
    path = next((p for name in ARGUMENTS if (p := folder / name).is_file()), None)
    return read_yaml(path)[0] if path else {}  # JSON is YAML


def _kind(history: Sequence[Row], arguments: Mapping[str, Any]) -> str:
    keys = {key for row in history for key in row}
    if keys & SCALED.keys():
        return "preference"
    if keys & {"reward", "objective/kl", "objective/scores"}:
        return "online"
    stage = STAGES.get(str(arguments.get("stage")))
    return stage or ("reward" if {"margin", "accuracy"} <= keys else "sft")


def _beta(arguments: Mapping[str, Any]) -> float:
    key = next((k for k in ("beta", "pref_beta") if arguments.get(k) is not None), None)
    return _number(arguments, key) if key else 0.1


def _number(arguments: Mapping[str, Any], key: str) -> float:
    """A number, also one that is written as text."""
    try:
        return float(arguments[key])
    except (TypeError, ValueError):
        what = f"is {arguments[key]!r}"
        raise DataError(what, where=f"training_args {key}", allowed="a number") from None


def _log(history: Sequence[Row], of: str, beta: float) -> tuple[list[Row], str]:
    """Rows as accord logs them, up to the first with a loss or gradient that is not finite, and what it was;
    rows of an evaluation give the held-out loss."""
    names = SAME | {"preference": PREFERENCE, "reward": REWARD, "online": ONLINE}.get(of, {})
    log: list[Row] = []
    for row in history:
        wrong = [k for k in ("loss", "grad_norm") if not math.isfinite(row.get(k) or 0.0)]
        if wrong:
            return log, f"step {row.get('step')}: {wrong[0]} is {row[wrong[0]]}"
        new = {ours: row[theirs] for theirs, ours in names.items() if theirs in row}
        if "eval_loss" in row and of == "sft":
            new = {"step": row.get("step"), "eval/nll": row["eval_loss"]}
        elif "loss" not in row and of != "online":
            continue  # the last row: run time and means
        if of == "preference" and beta:
            if {"rewards/chosen", "rewards/rejected"} <= row.keys():
                row = {"rewards/margins": row["rewards/chosen"] - row["rewards/rejected"], **row}
            new |= {ours: row[theirs] / beta for theirs, ours in SCALED.items() if theirs in row}
        if of == "online" and "kl" in row:  # of GRPO: a mean over tokens
            new |= {"kl_k3": row["kl"] * max(1.0, new.get("length", 1.0)), "beta": beta}
        log.append(new)
    return log, ""


def _config(of: str, arguments: Mapping[str, Any]) -> Row:
    known = arguments.get("learning_rate") is not None
    config: Row = {"lr": _number(arguments, "learning_rate") if known else None}
    if of == "preference":
        name = arguments.get("pref_loss", arguments.get("loss_type", "sigmoid"))
        name = name[0] if isinstance(name, list) and name else name
        config["loss"] = {
            "name": "dpo" if name == "sigmoid" else str(name),
            "beta": _beta(arguments),
        }
    if of == "online":
        masked = arguments.get("mask_truncated_completions") or arguments.get("missing_eos_penalty")
        config["missing_eos"] = {"treatment": "penalty" if masked else "leave"}
        config["scale_rewards"] = bool(arguments.get("scale_rewards", True))
    return config


def _base(folder: Path, arguments: Mapping[str, Any]) -> Row:
    """The base an adapter names, and the one that was trained on."""
    path = next(
        iter(
            [*folder.glob("adapter_config.json"), *folder.glob("checkpoint-*/adapter_config.json")]
        ),
        None,
    )
    named = read_yaml(path)[0].get("base_model_name_or_path") if path else None
    trained = arguments.get("model_name_or_path")
    return {"adapter_base": named, "base": trained} if named and trained else {}
