"""The house's own kinds of stage, one file or folder each: importing them registers them, in this order."""

from accord.pipeline.stages import (  # isort: skip
    simulate, importing, opening, adding, sft, reward, process, reward_axes, preference, sweep, blend,
    on_policy, ask, judge, revise, rm_check, eval, compare, results, kl_frontier,
)  # fmt: skip

__all__ = [
    "adding",
    "ask",
    "blend",
    "compare",
    "eval",
    "importing",
    "judge",
    "kl_frontier",
    "on_policy",
    "opening",
    "preference",
    "process",
    "results",
    "revise",
    "reward",
    "reward_axes",
    "rm_check",
    "sft",
    "simulate",
    "sweep",
]  # fmt: skip
