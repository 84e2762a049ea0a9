"""What a reward model took over from the judge whose labels it learned: its leaning, the same or grown.

Both decide the held-out pairs that people judged too (the judge's `calibration.jsonl`), so what each pair is
worth cancels. Decisions are held against each other, not probabilities: a score has no scale of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accord.core.rundir import read_json, read_jsonl
from accord.core.types import Exchange, Metric
from accord.pipeline.context import StageContext, data_store
from accord.pipeline.stages.compare import CompareStage
from accord.rewards.learned import load_reward_model
from accord.stats.judged import lean, lean_grown

__all__ = ["handed_on", "leaning_of"]

CALIBRATION = "calibration.jsonl"
Row = dict[str, Any]


def handed_on(ctx: StageContext[CompareStage], reward: str) -> dict[str, Metric]:
    """The judge's leaning to the longer answer, the reward model's, and by how much that is greater; nothing
    where the model did not learn from a judge who was tried."""
    data = str(read_json(ctx.stages[reward] / "config.json").get("data"))
    file = ctx.stages[data] / CALIBRATION if data in ctx.stages else None
    if file is None or not file.exists():
        return {}
    rows = [r for r in read_jsonl(file) if r["p"] is not None and r.get("longer")]
    if not rows:
        return {}
    opened, _ = data_store(ctx.stages[data])
    with opened as store:
        prompts = {p.id: p for p in store.prompts()}
        responses = {x.id_for(prompts[p]): x for p, x in store.responses() if p in prompts}
    model = load_reward_model(ctx.stages[reward] / "model")
    once = dict.fromkeys((r["prompt"], i) for r in rows for i in r["responses"])
    scored = model([Exchange(prompt=prompts[p], response=responses[i]) for p, i in once])
    score = dict(zip(once, scored, strict=True))
    margins = [
        score[r["prompt"], r["responses"][0]] - score[r["prompt"], r["responses"][1]] for r in rows
    ]
    return leaning_of(rows, margins)


def leaning_of(rows: Sequence[Row], margins: Sequence[float]) -> dict[str, Metric]:
    """Of pairs with the judge's p of the first, what people said (0: the first), which is `longer` (1 the
    first, -1 the second), and the reward model's margin of the first."""
    signs = [r["longer"] for r in rows]
    judge = [_drawn(r["p"] - 0.5, s) for r, s in zip(rows, signs, strict=True)]
    model = [_drawn(m, s) for m, s in zip(margins, signs, strict=True)]
    deserved = [(r["people"] == 0) == (s > 0) for r, s in zip(rows, signs, strict=True)]
    prompts = [r["prompt"] for r in rows]
    return {
        "judge drawn to the longer answer": lean(judge, deserved, prompts),
        "reward model drawn to the longer answer": lean(model, deserved, prompts),
        "leaning grown from judge to reward model": lean_grown(judge, model, deserved, prompts),
    }


def _drawn(margin: float, sign: int) -> float:
    """Whether a decision is for the answer that has the feature; 1/2 where there is none."""
    return 0.5 if margin == 0 else float(margin * sign > 0)
