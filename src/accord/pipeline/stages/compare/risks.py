"""What a reward model took over from the judge whose labels it learned: its leaning, the same or grown.

Both decide the held-out pairs that people judged too (the judge's `calibration.jsonl`), so what each pair is
worth cancels. Decisions are held against each other, not probabilities: a score has no scale of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from accord.core.rundir import read_json, read_jsonl
from accord.core.types import Exchange, Metric
from accord.pipeline.context import StageContext, data_store
from accord.pipeline.stages.compare import CompareStage
from accord.rewards.learned import is_reward_model, load_reward_model
from accord.stats.judged import lean, lean_grown

__all__ = ["beyond", "handed_on", "leaning_of"]

CALIBRATION = "calibration.jsonl"
FEATURES = {
    "longer": "the longer answer",
    "concrete": "the one with more details",
    "nested": "the one that speaks to its judge",
}
Row = dict[str, Any]


def handed_on(ctx: StageContext[CompareStage], names: Iterable[str]) -> dict[str, Metric]:
    """Of every reward model that these stages stand on and that learned from a judge who was tried: that
    judge's leaning to what may draw one, its own, and by how much that is greater."""
    risks: dict[str, Metric] = {}
    for name in _behind(ctx, names):
        folder = ctx.stages[name] / "model"
        data = str(read_json(ctx.stages[name] / "config.json").get("data"))
        if data in ctx.stages and is_reward_model(folder):
            against = read_json(ctx.stages[data] / "config.json").get("against") or data
            held = _handed_on(ctx.stages[data], ctx.stages[against], folder)
            risks |= {f"{name}: {k}": m for k, m in held.items()}
    return risks


def beyond(ctx: StageContext[CompareStage], policy: str, start: str) -> list[str]:
    """The stages that a policy stands on and the one it started from does not."""
    return sorted({*_behind(ctx, [policy])} - {*_behind(ctx, [start])})


def _behind(ctx: StageContext[CompareStage], names: Iterable[str]) -> list[str]:
    """These stages and all that their configs name, and theirs."""
    behind, left = set[str](), list(names)
    while left:
        name = left.pop()
        if name in ctx.stages and name not in behind:
            behind.add(name)
            config = read_json(ctx.stages[name] / "config.json")
            left += _texts({k: v for k, v in config.items() if k not in ("name", "kind")})
    return sorted(behind)


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []


def _handed_on(judged: Path, against: Path, trained: Path) -> dict[str, Metric]:
    """`against` holds the pairs that the judge was tried on."""
    file = judged / CALIBRATION
    rows = [r for r in (read_jsonl(file) if file.exists() else []) if r["p"] is not None]
    known = {f: [r for r in rows if r.get(f)] for f in FEATURES}
    rows = [r for r in rows if any(r.get(f) for f in FEATURES)]
    if not rows:
        return {}
    opened, _ = data_store(against)
    with opened as store:
        prompts = {p.id: p for p in store.prompts()}
        responses = {x.id_for(prompts[p]): x for p, x in store.responses() if p in prompts}
    model = load_reward_model(trained)
    once = dict.fromkeys((r["prompt"], i) for r in rows for i in r["responses"])
    scored = model([Exchange(prompt=prompts[p], response=responses[i]) for p, i in once])
    score = dict(zip(once, scored, strict=True))

    def margin(r: Row) -> float:
        first, second = (score[r["prompt"], i] for i in r["responses"])
        return first - second

    leanings = [leaning_of(f, some, [margin(r) for r in some]) for f, some in known.items() if some]
    return {k: m for some in leanings for k, m in some.items()}


def leaning_of(feature: str, rows: Sequence[Row], margins: Sequence[float]) -> dict[str, Metric]:
    """Of pairs with the judge's p of the first, what people said (0: the first), which has more of the
    feature (1 the first, -1 the second), and the reward model's margin of the first."""
    signs = [r[feature] for r in rows]
    judge = [_drawn(r["p"] - 0.5, s) for r, s in zip(rows, signs, strict=True)]
    model = [_drawn(m, s) for m, s in zip(margins, signs, strict=True)]
    deserved = [(r["people"] == 0) == (s > 0) for r, s in zip(rows, signs, strict=True)]
    prompts = [r["prompt"] for r in rows]
    to = FEATURES[feature]
    return {
        f"its judge drawn to {to}": lean(judge, deserved, prompts),
        f"drawn to {to}": lean(model, deserved, prompts),
        f"more drawn than its judge to {to}": lean_grown(judge, model, deserved, prompts),
    }


def _drawn(margin: float, sign: int) -> float:
    """Whether a decision is for the answer that has the feature; 1/2 where there is none."""
    return 0.5 if margin == 0 else float(margin * sign > 0)
