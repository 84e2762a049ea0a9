"""The split of a budget: its arithmetic by hand, its optimum against brute force, what it never does."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from accord.cli import app
from accord.core.errors import ConfigError
from accord.core.types import Judgment, Preference, Prompt, Question, Rater, Response
from accord.plan import came
from accord.plan.budget import Agreed, Budget, Came, allocate, judge_refused, majority, worth
from accord.plan.came import came_in
from accord.store import Store


def plan(budget: float = 1000.0, **categories: Any) -> Budget:
    return Budget.model_validate(
        {"budget": budget, "price": {"human": 1.0, "ai": 0.05}, "categories": categories}
    )


def test_majorities_by_hand() -> None:
    assert majority(0.8, 1) == pytest.approx(0.8)
    assert majority(0.8, 2) == pytest.approx(0.8)  # the second only adds ties
    assert majority(0.8, 3) == pytest.approx(0.8**3 + 3 * 0.8**2 * 0.2)
    assert majority(0.5, 7) == pytest.approx(0.5)
    assert worth(1.0) == 1.0
    assert worth(0.5) == 0.0
    assert worth(0.8) == pytest.approx(0.36)
    assert worth(0.2) == worth(0.0) == 0.0  # nobody turns them round


def test_people_who_were_never_right_are_worth_nothing_and_a_judge_that_never_agreed_no_coin() -> (
    None
):
    never = {"right": 0, "of": 100}
    came = {"a": Came(prompts=100, overlap=1.0)}
    (bought,) = allocate(plan(a={"prompts": 10_000, "rater": never, "judge": never}), came)
    assert (bought.by, bought.prompts, bought.worth) == ("nobody", 0, 0.0)
    assert bought.accuracy.value == 0.5
    asked = plan(a={"prompts": 1, "judge": never})
    told = judge_refused(asked, asked.categories["a"])
    assert "the judge agrees with people at least 0.00" in told


def test_a_label_is_worth_no_more_than_its_upper_end_and_no_less_than_its_lower() -> None:
    """Raters who may well be worse than a coin: an interval about the accuracy, not a fold in it."""
    (bought,) = allocate(plan(a={"prompts": 1000, "rater": {"right": 5, "of": 9}}))
    assert bought.accuracy.low == 0.5
    assert bought.accuracy.low < bought.accuracy.value < bought.accuracy.high


def test_breadth_beats_overlap_while_there_are_prompts_and_then_overlap_is_bought() -> None:
    wide = allocate(plan(general={"prompts": 10_000}))[0]
    narrow = allocate(plan(general={"prompts": 200}))[0]
    assert (wide.overlap, wide.prompts) == (
        1,
        1000,
    )  # 0.36 a label against 0.63 for three times the price
    assert narrow.prompts == 200
    assert narrow.overlap == 5
    assert narrow.label == pytest.approx(majority(0.8, 5))


def test_a_judge_is_used_where_it_agrees_as_people_do_and_never_where_people_are_asked_for() -> (
    None
):
    judge = {"right": 180, "of": 200}
    some = {"prompts": 20_000, "judge": judge}
    bought = {
        p.category: p for p in allocate(plan(general=some, safety={**some, "human_only": True}))
    }
    assert bought["general"].by == "judge"
    assert bought["safety"].by == "people"
    assert bought["safety"].why == "people only"
    poor = plan(general={**some, "judge": {"right": 130, "of": 200}})
    assert "the judge agrees" in judge_refused(poor, poor.categories["general"])
    assert allocate(poor)[0].by == "people"


def brute_force(asked: Budget) -> float:
    """The best weighted accuracy over all prompts and overlaps of two categories, people only."""
    best = 0.0
    options = []
    for c in asked.categories.values():
        q = c.rater.right / c.rater.of
        options.append([
            (n * m, c.weight * max(0.5, c.curve.c - c.curve.a * (n * worth(majority(q, m))) ** -c.curve.b
                                   if n else 0.5))
            for m in range(1, asked.most_overlap + 1) for n in range(c.prompts + 1)
        ])  # fmt: skip
    for (cost_a, a), (cost_b, b) in itertools.product(*options):
        if cost_a + cost_b <= asked.budget:
            best = max(best, a + b)
    return best


@pytest.mark.parametrize("weight", [0.3, 1.0, 4.0])
def test_the_split_is_the_best_one(weight: float) -> None:
    asked = plan(
        50.0,
        a={"prompts": 40, "weight": weight, "rater": {"right": 75, "of": 100}},
        b={"prompts": 25, "rater": {"right": 90, "of": 100}, "curve": {"a": 0.8, "b": 0.4}},
    )
    found = sum(
        asked.categories[p.category].weight * (p.accuracy.value or 0.0) for p in allocate(asked)
    )
    assert found == pytest.approx(brute_force(asked), abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.floats(50, 3000), st.integers(20, 2000), st.integers(55, 95), st.floats(0.2, 5))
def test_never_over_budget_and_more_is_never_worse(
    money: float, prompts: int, right: int, weight: float
) -> None:
    def of(budget: float) -> tuple[float, float]:
        asked = plan(
            budget,
            a={"prompts": prompts, "weight": weight, "rater": {"right": right, "of": 100}},
            b={"prompts": 300, "judge": {"right": 95, "of": 100}},
        )
        bought = allocate(asked)
        value = sum(asked.categories[p.category].weight * (p.accuracy.value or 0) for p in bought)
        return sum(p.cost for p in bought), value

    cost, value = of(money)
    assert cost <= money * (1 + 1e-9)
    assert of(2 * money)[1] >= value - 1e-9


def test_what_came_in_counts_and_a_minimum_is_kept_or_refused() -> None:
    fresh = allocate(plan(general={"prompts": 500}))[0]
    again = allocate(plan(general={"prompts": 500}), {"general": Came(prompts=300, overlap=3)})[0]
    assert again.prompts <= 200
    assert again.worth > fresh.worth - 1e-9
    firm = plan(300.0, a={"prompts": 1000, "weight": 100.0}, b={"prompts": 1000, "at_least": 0.7})
    kept = {p.category: p for p in allocate(firm)}
    assert (kept["b"].accuracy.value or 0) >= 0.7
    with pytest.raises(ConfigError, match=r"b does not reach 0\.89 with all of the budget"):
        allocate(plan(300.0, b={"prompts": 1000, "at_least": 0.89}))


def test_a_judge_s_labels_count_where_it_may_stand_in() -> None:
    judge = {"right": 195, "of": 200}
    came = {"a": Came(judged=500)}
    trusted, untrusted = (
        allocate(plan(2000.0, a={"prompts": 500, "judge": judge, "human_only": alone}), came)[0]
        for alone in (False, True)
    )
    assert (trusted.by, trusted.prompts) == ("nobody", 0)
    assert trusted.worth == pytest.approx(500 * worth(0.975))
    assert (untrusted.by, untrusted.prompts) == ("people", 500)


def test_what_came_in_is_measured_on_people_and_the_judge_on_both(tmp_path: Path) -> None:
    """Prompts 0 to 3: ann and ben agree on three of four; the judge on 0, 1 and 3, where they differ: right
    with people 2 + 2 + 1 of 6. Prompt 4 has the judge alone, prompt 5 a rule that is nobody."""
    a, b = Response(text="a"), Response(text="b")
    prompts = [Prompt.user(f"question {n}", category="tents") for n in range(6)]
    people = [Rater(name=name, kind="human") for name in ("ann", "ben")]
    judge, rule = Rater(name="judge", kind="model"), Rater(name="longest", kind="rule")
    said = [
        *((n, people[0], 0) for n in range(4)), *((n, people[1], int(n == 3)) for n in range(4)),
        *((n, judge, 0) for n in (0, 1, 3, 4)), (5, rule, 0), (0, rule, 1),
    ]  # fmt: skip
    with Store(tmp_path / "s.db") as store:
        store.add_prompts([*prompts, other := Prompt.user("of no category")])
        store.add_raters([*people, judge, rule])
        for p in (*prompts, other):
            store.add_responses(p, [a, b])
        asked = [
            Question(prompt=p.id, responses=(a.id_for(p), b.id_for(p)), kind="compare")
            for p in (*prompts, other)
        ]
        store.add_questions(asked)
        store.add_judgments(
            Judgment(
                question=asked[n].id,
                rater=rater.id,
                answer=Preference(better=better),
                at="2026-01-01T00:00:00+00:00",
            )
            for n, rater, better in (*said, (6, people[0], 0))
        )
        found = came_in(store.freeze("v1"), "category")["tents"]
    assert found.there == Came(prompts=4, overlap=2.0, judged=1)
    assert (found.agree, found.together) == (3.0, 4)
    assert found.rater == Agreed(right=round(4 * (1 + 0.5**0.5) / 2), of=4)
    assert found.judge == Agreed(right=5, of=6)
    file = tmp_path / "budget.yaml"
    file.write_text("{budget: 9, price: {human: 1, ai: 0.1}, categories: {tents: {prompts: 9}}}")
    told = CliRunner().invoke(
        app, ["plan", "budget", str(file), "--store", f"{tmp_path / 's.db'}@v1"]
    )
    assert told.exit_code == 0, told.output
    first = " ".join(told.output.split())
    assert "tents: 4 prompts labelled, raters agree 0.75 (4 pairs)" in first
    assert "a judge says what they say 0.83 (6); 1 more by a judge alone" in first
    assert "1 prompts are of no category" in first


@pytest.mark.parametrize(
    ("a", "b", "same"), [(1.0, 0.7, 1.0), (0.2, 0.9, 0.0), (0.5, 0.9, 0.5), (0.3, 0.3, 1.0)]
)
def test_soft_votes_agree_where_they_name_the_same_side(a: float, b: float, same: float) -> None:
    assert came._agreement(a, b) == same
