"""The first step of a preference training computed again (`accord doctor RUN --deep`).

The first batch's pairs are read by the model the training began from. What was logged of that batch says how
likely the policy and the reference found them then: both should have been that model. Which of the two was
not tells a dropout or a second merge (the policy) from a reference of other weights.

Legend: S scored tokens.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from accord.core.rundir import read_json, read_jsonl
from accord.core.types import Pair, Response
from accord.lm.chat import render_exchange
from accord.lm.model.load import MODEL_FILE, LanguageModel
from accord.lm.trees.engine import Engine, evaluating
from accord.lm.trees.tree import Tree
from accord.pipeline.doctor.base import Finding, StageRecord, Unseen, check, finding, strength
from accord.pipeline.recipe import Recipe
from accord.pipeline.runner import stage_seed
from accord.train.loop.optimise import Optimise, batch_items

__all__ = ["first_step"]

SIDES = ("chosen", "rejected")
Row = dict[str, Any]


def first_step(
    recipe: Recipe, folder: Path, case: StageRecord, lm: LanguageModel, most: int
) -> Row:
    """What the model says of the first batch of a stage that left this folder (`again`)."""
    node = next(n for n in recipe.nodes if n.name == case.name)
    return again(lm, first_batch(folder, case, stage_seed(recipe, node)), folder, most)


def first_batch(folder: Path, case: StageRecord, seed: int) -> list[Pair]:
    """The comparisons of the first step, of the rows that the stage left in its order."""
    rows = [r for r in read_jsonl(folder / "trained_on.jsonl") if "better" in r]
    items = [list(some) for _, some in itertools.groupby(rows, key=lambda r: r["prompt"])]
    prompts = {g.prompt.id: g.prompt for g in case.train}
    known = {(g.prompt.id, r.text): r for g in case.train for r in g.responses}
    keys = {k: case.config[k] for k in Optimise.model_fields if k in case.config}
    taken = [row for k in batch_items(len(items), 0, Optimise(**keys), seed) for row in items[k]]

    def answered(row: Row, side: str) -> Response:
        at = (row["prompt"], row[side])
        return known.get(at) or Response(text=row[side], finish="stop")

    return [
        Pair(
            prompt=prompts[r["prompt"]], chosen=answered(r, "better"), rejected=answered(r, "worse")
        )
        for r in taken
        if r["prompt"] in prompts
    ]


def again(lm: LanguageModel, pairs: Sequence[Pair], folder: Path, most: int = 256) -> Row:
    """Means over the pairs under this model, named as a log's columns: `chosen_logp` (nats per token),
    `chosen_sum` (nats), `chosen_tokens`, and of the rejected; and whether the saved adapter stands on it."""
    engine, rows = Engine(lm.model), []
    with evaluating(lm.model), torch.inference_mode():
        for p in pairs:
            both = [
                render_exchange(lm.tokenizer, p.prompt, r, max_completion=most)
                for r in (p.chosen, p.rejected)
            ]
            logps = engine.logps([Tree(both[0].prompt, tuple(b.completion for b in both))])
            parts = logps.tokens_S.float().split(list(logps.lengths))
            row: Row = {}
            for side, part in zip(SIDES, parts, strict=True):
                row |= {
                    f"{side}_logp": float(part.mean()),
                    f"{side}_sum": float(part.sum()),
                    f"{side}_tokens": float(len(part)),
                }
            rows.append(row)
    means = {k: sum(r[k] for r in rows) / len(rows) for k in (rows[0] if rows else ())}
    saved = folder / "model" / MODEL_FILE
    stands_on = read_json(saved).get("base_weights") if saved.exists() else None
    other = bool(stands_on) and stands_on != lm.weights
    return {**means, "pairs": len(rows), "model": lm.name, "other_base": other}


@check("not_its_start", of=("deep",))
def not_its_start(case: StageRecord) -> Finding | None:
    """The policy or the reference of the first step is not the model the training began from."""
    first: Mapping[str, Any] = case.facts.get("first") or {}
    row = case.log[0] if case.log and case.log[0].get("step", 1) <= 1 else {}
    named = [f"{side}_{what}" for side in SIDES for what in ("logp", "shift", "tokens")]
    if not first.get("pairs") or any(row.get(k) is None for k in named):
        raise Unseen
    # tokens are the sum that shows that these are the pairs of that batch
    if any(abs(row[f"{s}_tokens"] - first[f"{s}_tokens"]) > 1e-3 for s in SIDES):
        raise Unseen
    policy = max(abs(row[f"{s}_logp"] - first[f"{s}_logp"]) for s in SIDES)
    apart = max(abs(row[f"{s}_shift"]) for s in SIDES)
    where = f"of the first batch's {first['pairs']} pairs, read again by {first['model']}"
    if policy > 0.02:
        cause, change = (
            "the policy of the first step is not the model it began from",
            "nothing may drop out; load the weights once, with an adapter merged once",
        )
    elif first["other_base"]:
        cause, change = (
            "the adapter stands on other weights than it is said to begin from",
            "train it again on the base it is served on, or serve it on the one it names",
        )
    else:
        cause, change = (
            "the reference is not the model the training began from",
            "compute its log-probs with the weights and template that train (drop a kept reference)",
        )
    by = max(strength(policy, 0.02, 0.1), strength(apart, 0.05, 0.5))
    return finding(
        case,
        max(by, 0.8) if first["other_base"] else by,
        cause=cause,
        number=f"{where}: the policy was {policy:.2g} nats a token off it, policy and reference "
        f"{apart:.2g} nats an answer apart",
        change=change,
        test=f"accord run RECIPE --only {case.name} --fresh --set {case.name}.max_steps=1",
    )
