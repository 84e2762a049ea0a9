"""Stage kind -> function and version. Raising a version makes old outputs be made again."""

from __future__ import annotations

from collections.abc import Callable

from accord.pipeline.ask_stage import ask_stage, rm_check_stage
from accord.pipeline.context import StageContext, StageResult
from accord.pipeline.data_stages import import_stage, open_stage, simulate_stage
from accord.pipeline.eval_stages import compare_stage, eval_stage
from accord.pipeline.model_stages import (
    axes_stage,
    preference_stage,
    process_stage,
    reward_stage,
    sft_stage,
)
from accord.pipeline.rlhf_stage import rlhf_stage
from accord.pipeline.sweep_stage import sweep_stage

__all__ = ["STAGES"]

STAGES: dict[str, Callable[[StageContext], StageResult]] = {
    "simulate": simulate_stage,
    "import": import_stage,
    "open": open_stage,
    "sft": sft_stage,
    "reward": reward_stage,
    "process": process_stage,
    "reward_axes": axes_stage,
    "preference": preference_stage,
    "sweep": sweep_stage,
    "ppo": rlhf_stage,
    "rloo": rlhf_stage,
    "grpo": rlhf_stage,
    "online_dpo": rlhf_stage,
    "best_of_n": rlhf_stage,
    "ask": ask_stage,
    "rm_check": rm_check_stage,
    "eval": eval_stage,
    "compare": compare_stage,
}
