"""What a judge's labels did to a policy, of stages written by hand: who was taught, by which principle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from accord.core.measure import Measure
from accord.core.rundir import write_json
from accord.core.types import Metric, Prompt
from accord.pipeline.context import StageContext
from accord.pipeline.stages.compare import CompareStage, report
from accord.pipeline.stages.compare.loops import by_principles, feedback_loops
from accord.pipeline.stages.compare.risks import beyond
from accord.pipeline.stages.compare.run import _apart
from accord.stats.intervals import paired_difference
from tests.constitution.test_principles import principle
from tests.pipeline.test_runner import Heard

Row = dict[str, Any]
GOLD = Measure(name="gold", title="gold", meaning="", better="more", role="truth", bounded=True)
TONE = Measure(name="tone", title="tone", meaning="", kind="share", better="more")
ALONG = Measure(name="goes along", title="goes along", meaning="", kind="share", better="less")
KNOWN = {m.name: m for m in (GOLD, TONE, ALONG)}


def context(
    here: Path, configs: dict[str, Row], facts: dict[str, Row]
) -> StageContext[CompareStage]:
    for name, config in configs.items():
        (here / name).mkdir()
        write_json(here / name / "config.json", {"name": name, **config})
        result = {"metrics": {}, "notes": [], "facts": facts.get(name, {}), "headline": ""}
        write_json(here / name / "result.json", result)
    return StageContext(
        name="compare", config=CompareStage(kind="compare", eval="eval"), seed=3, model="base",
        folder=here, recipe_folder=here, stages={n: here / n for n in configs}, reporter=Heard(),
        cache_folder=here,
    )  # fmt: skip


def row(n: int, tag: str, **scores: float) -> Row:
    prompt = Prompt.user(f"message {n}", about=tag)
    return {"prompt_id": f"p{n}", "prompt": prompt.model_dump(mode="json"), "gold": scores}


@pytest.fixture
def ctx(tmp_path: Path) -> StageContext[CompareStage]:
    principles = [principle("polite", category="tone"), principle("kind", category="warmth")]
    plain = {"name": "two", "version": 1, "principles": [p.model_dump() for p in principles]}
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(plain))
    configs: dict[str, Row] = {
        "sft": {"kind": "sft", "init": "base"},
        "people": {"kind": "import"},
        "judged": {"kind": "judge", "data": "people", "judge": "x", "constitution": "two.yaml"},
        "dpo": {"kind": "preference", "init": "sft", "data": "people"},
        "dpo_ai": {"kind": "preference", "init": "sft", "data": "judged"},
    }
    labels = [["polite", 30, "", "", ""], ["kind", 12, "", "", ""], ["unused", 0, "", "", ""]]
    return context(tmp_path, configs, {"judged": {"judge": "x", "principles": labels}})


BEFORE = {"dpo": "sft", "dpo_ai": "sft"}


def test_only_a_policy_that_a_judge_taught_has_a_loop(ctx: StageContext[CompareStage]) -> None:
    apart = paired_difference([1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0])
    share = Metric(value=0.75, n=4)
    table = {name: {"goes along": share} for name in ("sft", "dpo", "dpo_ai")}
    pairs = {f"{name} - sft": {"goes along": apart} for name in BEFORE}
    loops = feedback_loops(ctx, table, pairs, BEFORE, lambda p: beyond(ctx, p, BEFORE[p]))
    assert [k.partition(":")[0] for k in loops] == ["dpo_ai"] * 3
    both = {"goes along": share, "spread": share}
    table |= dict.fromkeys(("sft", "dpo_ai"), both)
    pairs["dpo_ai - sft"] = {"goes along": apart, "spread": apart}
    told = feedback_loops(ctx, table, pairs, BEFORE, lambda p: beyond(ctx, p, BEFORE[p]))
    assert told["dpo_ai: spread of its samples, by how much more"] == apart
    assert len(told) == 6
    assert loops["dpo_ai: goes along with wrong premises, by how much more"] == apart
    nothing: dict[str, dict[str, Metric]] = {"sft": {}, "dpo_ai": {}}
    assert not feedback_loops(
        ctx, nothing, {"dpo_ai - sft": {}}, {"dpo_ai": "sft"}, lambda p: ["judged"]
    )


def test_what_became_of_what_each_principle_asks_for(ctx: StageContext[CompareStage]) -> None:
    """`polite` is of category tone: its figure on prompts about tone; `kind` names no figure and no prompts:
    the deciding one on all."""
    rude = {n: row(n, "tone" if n < 6 else "price", gold=0.25, tone=0.0) for n in range(12)}
    answers = {
        "sft": list(rude.values()),
        "dpo": list(rude.values()),
        "dpo_ai": [
            row(n, "tone" if n < 6 else "price", gold=0.5, tone=float(n < 6)) for n in range(12)
        ],
    }
    behind = lambda policy: beyond(ctx, policy, BEFORE[policy])  # noqa: E731
    lines = by_principles(ctx, answers, KNOWN, BEFORE, behind, _apart)
    assert [line[:4] for line in lines] == [
        ["dpo_ai", "polite", "30 labels", "tone: tone"],
        ["dpo_ai", "kind", "12 labels", "warmth: gold"],
    ]
    polite, kind = (line[4:] for line in lines)
    assert [cell.split()[0] for cell in polite] == ["0", "1", "1"]
    assert all("n=6" in cell for cell in polite)
    assert [cell.split()[0] for cell in kind] == ["0.25", "0.5", "0.25"]
    assert all("[" in cell and "n=12" in cell for cell in kind)


def test_the_report_shows_both(tmp_path: Path) -> None:
    (tmp_path / "verdicts.jsonl").write_text("")

    class Done:
        folder = tmp_path

        class result:
            facts: Row = {  # noqa: RUF012
                "loops": {"dpo_ai: goes along": "0.5 [0.4, 0.6] n=9"},
                "by_principle": [["dpo_ai", "<kind>", "3 labels", "tone: tone", "0", "1", "1"]],
            }

    section = report(Done())
    assert section.title == "Risks of AI feedback"
    assert any("Sycophancy loop" in line for line in section.text)
    assert "&lt;kind&gt;" in section.body
