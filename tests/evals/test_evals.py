"""Sampling and scoring are two things: what is scored anew samples nothing, and touches no other's scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accord.core.errors import DataError
from accord.core.measure import Measure, column_order, decisive
from accord.core.rundir import read_json, read_jsonl
from accord.core.types import Exchange, Metric, Prompt, Response
from accord.evals.base import (
    EvaluationContext,
    configured,
    evaluation,
    evaluations,
    measured,
    scored,
    scores_of,
)
from accord.evals.kept import replies, scores
from accord.lm.sample import LocalSampler
from accord.pipeline.asked import prompts_of
from accord.pipeline.evaluating import run_evals
from accord.pipeline.folder import RunFolder
from accord.pipeline.recipe import read_recipe
from accord.pipeline.runner import run
from tests.pipeline.test_runner import Heard
from tests.pipeline.tiny_recipe import save_tiny_model, write_recipe

CALLS: Counter[str] = Counter()
VOWELS = Measure(name="vowels", title="vowels", meaning="vowels per answer")
LONG = Measure(
    name="long", title="long", meaning="share of long answers", kind="share", better="less"
)


@pytest.fixture
def two() -> Iterator[None]:
    """Two evaluations that count how often they are asked."""

    @evaluation("vowels", measures=[VOWELS])
    def vowels(context: EvaluationContext) -> Any:
        def score(found: Any) -> Any:
            CALLS["vowels"] += 1
            return [{"vowels": sum(c in "aeiou" for c in r.response.text)} for r in found]

        return score

    @evaluation("long", measures=[LONG])
    def long(context: EvaluationContext, *, most: int = 3) -> Any:
        def score(found: Any) -> Any:
            CALLS["long"] += 1
            return [{"long": len(r.response.text) > most} for r in found]

        return score

    CALLS.clear()
    yield
    for name in ("vowels", "long"):
        del evaluations._entries[name]


def bump(name: str) -> None:
    entry = evaluations._entries[name]
    facts = {**entry.facts, "version": entry.facts["version"] + 1}
    evaluations._entries[name] = replace(entry, facts=facts)


EXCHANGES = [
    Exchange(prompt=Prompt.user(f"p{i}"), response=Response(text="a" * i, finish="stop"))
    for i in range(6)
]


def test_another_version_leaves_the_other_s_scores(two: None, tmp_path: Path) -> None:
    def ask(most: int = 3) -> list[Any]:
        found = configured(["vowels", {"name": "long", "most": most}])
        return [scores(tmp_path, e, EvaluationContext(), EXCHANGES) for e in found]

    first = ask()
    assert first[0] == [{"vowels": float(i)} for i in range(6)]
    assert first[1] == [{"long": float(i > 3)} for i in range(6)]
    assert ask() == first
    assert CALLS == {"vowels": 1, "long": 1}
    bump("long")
    assert ask() == first
    assert CALLS == {"vowels": 1, "long": 2}
    assert ask(most=1)[1] != first[1]
    assert CALLS == {"vowels": 1, "long": 3}


def test_replies_are_those_of_policy_prompts_and_sampling(tmp_path: Path) -> None:
    asked: list[str] = []

    def of(policy: str, n: int, how: dict[str, Any]) -> list[list[Exchange]]:
        def sample(part: Sequence[Prompt], before: int) -> list[list[Response]]:
            asked.append(policy)
            assert (len(part), before) == (n, 0)
            return [[Response(text=f"{policy} {i}"), Response(text="b")] for i in range(n)]

        return replies(tmp_path, policy, [e.prompt for e in EXCHANGES[:n]], how, sample)

    first = of("one", 3, {"seed": 1})
    assert of("one", 3, {"seed": 1}) == first
    assert [[e.response.text for e in some] for some in first] == [
        [f"one {i}", "b"] for i in range(3)
    ]
    assert asked == ["one"]
    for policy, n, how in (
        ("two", 3, {"seed": 1}),
        ("one", 2, {"seed": 1}),
        ("one", 3, {"seed": 2}),
    ):
        of(policy, n, how)
    assert asked == ["one", "two", "one", "one"]
    (kept,) = [f for f in (tmp_path / "replies").iterdir() if '"two 0"' in f.read_text()]
    kept.write_text(kept.read_text().splitlines()[0] + "\n")  # damaged: not whole
    assert len(of("two", 3, {"seed": 1})) == 3
    assert asked[-1] == "two"


def test_replies_are_kept_part_by_part(tmp_path: Path) -> None:
    """What a kill leaves is whole parts; a part that is not whole is asked anew, for its last bits."""
    prompts = [e.prompt for e in EXCHANGES]
    asked: list[tuple[int, int]] = []

    def sample(part: Sequence[Prompt], before: int) -> list[list[Response]]:
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append((len(part), before))
        return [[Response(text=f"to {p.last}")] for p in part]

    def ask() -> list[list[Exchange]]:
        parts = [prompts[4:], prompts[2:4], prompts[:2]]
        return replies(tmp_path, "one", prompts, {}, sample, parts)

    with pytest.raises(KeyboardInterrupt):
        ask()
    assert asked == [(2, 0), (2, 2)]
    (kept,) = (tmp_path / "replies").iterdir()
    kept.write_text("".join(kept.read_text().splitlines(keepends=True)[:3]))  # half of the second
    asked.clear()
    found = ask()
    assert asked == [(2, 2), (2, 4)]
    assert [e.response.text for (e,) in found] == [f"to {p.last}" for p in prompts]


def test_a_version_of_scoring_samples_nothing(
    two: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the whole pipeline: the stage has another key, the cache its replies and the other's scores."""
    path = write_recipe(tmp_path, save_tiny_model(tmp_path / "model"))
    text = path.read_text().replace("prompts: 6,", "prompts: 6, evals: [gold, long, vowels],")
    path.write_text(text)

    def go() -> RunFolder:
        return run(read_recipe(path), tmp_path / "runs", Heard(), only=["study", "eval/base"])

    first = go().stages["eval/base"]
    bump("long")

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("sampled")

    monkeypatch.setattr(LocalSampler, "__call__", never)
    again = go().stages["eval/base"]
    assert again != first
    assert read_jsonl(again / "answers.jsonl") == read_jsonl(first / "answers.jsonl")
    assert read_json(again / "result.json") == read_json(first / "result.json")
    assert CALLS == {"vowels": 1, "long": 2}
    assert read_json(first / "result.json")["metrics"]["long"]["measure"]["better"] == "less"

    monkeypatch.undo()
    name = f"{go().path}:base"
    asked = prompts_of([str(go().path)])
    held = {row["prompt_id"] for row in read_jsonl(first / "answers.jsonl")}
    assert held <= {p.id for p in asked.prompts}
    report = run_evals(
        name,
        ["gold", "length"],
        prompts=[str(go().path)],
        limit=3,
        cache=tmp_path / "c",
        max_new_tokens=4,
    )
    assert (len(report.replies), report.replies[0].response.source) == (3, "model:base")
    assert report.metrics["gold"]["gold"].n == 3
    monkeypatch.setattr(LocalSampler, "__call__", never)
    later = run_evals(
        name, ["refusal"], prompts=[str(go().path)], limit=3, cache=tmp_path / "c", max_new_tokens=4
    )
    assert later.replies == report.replies


@pytest.mark.parametrize(
    ("give", "match"), [([{}], "scored 1 of 6"), ([{"other": 1.0}] * 6, "other, which it does not")]
)
def test_a_wrong_scorer_is_told(two: None, give: Any, match: str) -> None:
    (found,) = configured(["vowels"])
    with pytest.raises(DataError, match=match):
        scored(replace(found, make=lambda context: lambda r: give), EvaluationContext(), EXCHANGES)


def test_what_does_not_apply_counts_nowhere(two: None) -> None:
    (found,) = configured(["vowels"])
    give = [{"vowels": 1.0}, {"vowels": float("nan")}, {}, {}, {}, {}]
    rows = scored(
        replace(found, make=lambda context: lambda r: give), EvaluationContext(), EXCHANGES
    )
    assert rows == [{"vowels": 1.0}, {}, {}, {}, {}, {}]


def test_a_measure_says_how_it_is_estimated() -> None:
    share, mean = measured(LONG, [1.0, 0.0, 1.0, 1.0]), measured(VOWELS, [1.0, 0.0, 1.0, 1.0])
    assert share.value == mean.value == 0.75
    assert (share.method, mean.method) == ("wilson, mid-P", "t")
    assert share.measure == LONG
    assert "measure" not in Metric(value=1.0, n=1).model_dump(mode="json")
    assert LONG.way(0.1) == "worse"
    assert LONG.way(-0.1) == "better"
    assert VOWELS.way(0.1) == "changed"
    assert LONG.difference().kind == "difference"


def test_what_decides_is_a_matter_of_roles() -> None:
    truth = Measure(name="t", title="t", meaning="", better="more", role="truth")
    proxy = Measure(name="p", title="p", meaning="", better="more", role="proxy")
    far = Measure(name="d", title="d", meaning="", role="distance")
    by = {m.name: m for m in (far, VOWELS, proxy, LONG, truth)}
    order = ["t", "long", "p", "vowels"]
    for name in order:
        found = decisive(by)
        assert found is not None
        assert found.name == name
        del by[name]
    assert decisive(by) is None
    assert column_order({m.name: m for m in (VOWELS, far, proxy)}) == ["p", "d", "vowels"]


def test_scores_of_rows_of_before_and_now() -> None:
    old = {"prompt": {"n": 1}, "response": {}, "words": 3, "case": "plain", "gold": {"gold": 0.5}}
    assert scores_of({**old, "reward": 1.5}) == {"words": 3.0, "reward": 1.5, "gold": 0.5}
    assert scores_of({**old, "length": {"words": 3.0, "cut off": 1.0}})["cut off"] == 1.0


@pytest.mark.parametrize("n", [4, 10, 30])
def test_a_mean_of_values_in_0_to_1_is_held_where_most_are_1(n: int) -> None:
    """Brevity: four of five answers are brief enough. By t it was held in 0.54, 0.78 and 0.91 of worlds."""
    draw = np.random.default_rng(n)
    brief = Measure(name="b", title="b", meaning="b", bounded=True)
    worlds, held = 300, 0
    for _ in range(worlds):
        values = np.where(draw.random(n) < 0.8, 1.0, draw.random(n))
        found = measured(brief, values.tolist())
        assert found.low is not None
        assert found.high is not None
        assert 0 <= found.low <= found.high <= 1
        held += found.low <= 0.9 <= found.high
    assert held / worlds > 0.93


def test_the_same_value_from_a_few_answers_is_no_certainty() -> None:
    brief = Measure(name="b", title="b", meaning="b", bounded=True)
    found = measured(brief, [1.0] * 4)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low is not None
    assert found.low < 0.7
