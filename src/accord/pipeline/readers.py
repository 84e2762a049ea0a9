"""What a reward model has read of the policy that is to follow it, and how well it orders its answers.

A reward model that learned from others' answers alone may order a policy's own worse than a coin: in recipe
`hacked` it was right on 0.82 of written pairs and on 0.45 of the policy's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from accord.core.errors import AccordError, RunError
from accord.core.rundir import read_json, read_jsonl
from accord.core.types import Metric
from accord.pipeline.context import data_store, read_result
from accord.pipeline.stage import BASE

__all__ = ["orders_of", "read_of", "strangers"]

NOBODYS = ("unknown", "import:", "policy")  # sources that don't say who wrote an answer


def read_of(policy: str, model: str, stages: Mapping[str, Path]) -> tuple[int, int] | None:
    """Of the answers that taught the reward model of a stage, how many the policy gave, or one that its
    training started from; and how many there were. None where that is not known: no such stage, a store that
    is gone, answers of which it is not said who wrote them."""
    try:
        own = {f"model:{name}" for name in _line(policy, stages)}
        rows = read_jsonl(stages[model] / "trained_on.jsonl")
        taught = {(r["prompt"], r[side]) for r in rows for side in ("better", "worse")}
        data = str(read_json(stages[model] / "config.json")["data"])
        opened, facts = data_store(stages[data])
        with opened as store:
            groups = store.snapshot(facts["snapshot"]).groups(even="keep")
            every = [(g.prompt.id, r) for g in groups for r in g.responses]
            sources = [r.source for prompt, r in every if (prompt, r.text) in taught]
    except (AccordError, KeyError, OSError):
        return None
    if not sources or any(s.startswith(NOBODYS) for s in sources):
        return None
    return sum(s in own for s in sources), len(sources)


def _line(policy: str, stages: Mapping[str, Path]) -> list[str]:
    """The policy and those its training started from; the base only where it is the policy."""
    line = [policy]
    while policy in stages:
        policy = str(read_json(stages[policy] / "config.json").get("init", BASE))
        if policy == BASE or policy in line:
            break
        line.append(policy)
    return line


def strangers(
    policy: str, models: Sequence[str], stages: Mapping[str, Path]
) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """`read_of` of each model of which it is known, and what to say of those that read none of its own."""
    counts = {m: both for m in models if (both := read_of(policy, m, stages))}
    return counts, [
        f"none of the {n} answers that {model} learned from is {policy}'s: what it says of {policy}'s own is "
        "not known (a stage of kind ask has them judged; rm_check measures it)"
        for model, (own, n) in counts.items()
        if not own
    ]


def orders_of(policy: str, models: Sequence[str], check: Path, where: str) -> dict[str, Metric]:
    """How well each reward model orders the policy's own answers, as a stage `rm_check` left it; RunError
    where that one asked about others."""
    done, there = read_result(check), read_json(check / "config.json")["models"]
    asked = done.facts["policy"]
    if asked != policy or not set(models) <= set(there):
        raise RunError(
            f"it asked {', '.join(there)} about answers of {asked}",
            where=where,
            allowed=f"one that asks {', '.join(models)} about answers of {policy}",
        )
    return {name: done.metrics[name] for name in models}
