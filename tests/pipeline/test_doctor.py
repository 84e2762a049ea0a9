"""The doctor on records made by hand, and on files; what it names of planted faults is tests/faults."""

from __future__ import annotations

import json
import math
import random
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from accord.core.types import (
    Edge,
    Group,
    Judgment,
    Preference,
    Prompt,
    Question,
    Rater,
    Response,
)
from accord.pipeline.doctor.base import StageRecord, checks, examined, strength
from accord.pipeline.doctor.confidence import chance
from accord.pipeline.doctor.data import told_apart
from accord.pipeline.doctor.reading import of_data
from accord.pipeline.doctor.trial import ordered_run
from accord.store import Store
from tests.test_cli import accord, assert_one_line


def log(n: int = 20, **columns: tuple[float, float]) -> list[dict[str, float]]:
    """Rows whose columns go evenly from one value to another."""
    return [
        {"step": k + 1, **{c: a + (b - a) * k / (n - 1) for c, (a, b) in columns.items()}}
        for k in range(n)
    ]


def dpo(beta: float = 0.1, **columns: tuple[float, float]) -> StageRecord:
    usual = {"loss": (0.69, 0.4), "grad_norm": (2.0, 1.0), "chosen_tokens": (20.0, 20.0)}
    rows = log(**{**usual, **columns})
    return StageRecord(
        "dpo", "preference", {"loss": {"name": "dpo", "beta": beta}, "lr": 1e-4}, rows
    )


def names(case: StageRecord) -> list[str]:
    return [f.check for f in examined([case]).findings]


def test_strength_is_linear_between_its_two_ends() -> None:
    assert [strength(x, 1.0, 3.0) for x in (1.0, 2.0, 3.0, 9.0)] == [0.0, 0.5, 1.0, 1.0]
    assert strength(0.0, 1.0, 3.0) < 0
    assert strength(float("nan"), 1.0, 3.0) == -float("inf")
    assert strength(float("inf"), 1.0, 3.0) == 1.0  # a loss that is infinite is high
    assert strength(-2.0, -3.0, -1.0) == 0.5  # small is bad


def test_movement_and_what_the_loss_sees_tell_beta_from_the_learning_rate() -> None:
    """20 tokens: a shift of 1 nat is 0.05 a token, one of 60 is 3."""
    fine = dpo(margin=(0, 8), chosen_shift=(0, -1), rejected_shift=(0, -9))
    assert names(fine) == []
    still = dpo(margin=(0, 0.01), chosen_shift=(0, 0.005), rejected_shift=(0, -0.005))
    assert names(still)[0] == "learning_rate_low"
    tight = dpo(10.0, margin=(0, 0.5), chosen_shift=(0, 0.2), rejected_shift=(0, -0.3))
    assert names(tight)[0] == "beta_high"
    loose = dpo(0.001, margin=(0, 40), chosen_shift=(0, 1), rejected_shift=(0, -60))
    assert names(loose)[0] == "beta_low"
    far = {"margin": (0, 4), "chosen_shift": (0, 1), "kl": (0, 2.5), "accuracy": (0.5, 0.6)}
    assert names(dpo(loss=(0.69, 1.4), **far))[0] == "learning_rate_high"  # the loss saw it
    assert names(dpo(0.001, loss=(0.69, 0.69), **far)) == ["beta_low"]  # it could not
    multiplied = dpo(10.0, loss=(0.69, 8.0), margin=(0, 2), chosen_shift=(0, 2), accuracy=(0.5, 1))
    assert names(multiplied) == ["beta_high"]  # by 0.1 nats a token: β, not the step
    fallen = dpo(margin=(0, 20), chosen_shift=(0, -40), rejected_shift=(0, -60))
    assert "displacement" in names(fallen)
    other = dpo(margin=(2.0, 8), chosen_shift=(1, 4), rejected_shift=(-1, -4))
    assert "not_the_reference" in names(other)


def test_a_training_that_broke_off_early_is_named_by_the_few_rows_it_logged() -> None:
    rows = [{"step": k + 1, "loss": x, "grad_norm": 9.0} for k, x in enumerate((5.0, 9.0, 60.0))]
    assert names(StageRecord("sft", "sft", {"lr": 50.0}, rows)) == ["learning_rate_high"]


def test_a_number_that_is_not_finite_is_the_step_where_gradients_grew_and_is_not_where_they_did_not() -> (
    None
):
    why = {"not finite": "runs/stages/sft-1: grad_norm is nan"}

    def broke(*norms: float) -> list[str]:
        rows = [{"step": k, "loss": 5.0 + k, "grad_norm": x} for k, x in enumerate(norms)]
        return names(StageRecord("sft", "sft", {"lr": 50.0}, rows, why))

    assert broke(0.6, 80.0) == ["learning_rate_high"]
    assert broke(0.6, 0.6, 0.7) == ["not_finite"]
    assert broke(0.6) == ["not_finite"]


def test_a_mixed_loss_is_not_held_against_its_first_batch() -> None:
    """As the demo's: demonstrations move it far, few pairs a step go one way or the other, batches differ."""
    columns: dict[str, Any] = {"kl": (0, 1.2), "accuracy": (0.5, 0.6), "margin": (0, 3)}
    rows = log(**columns, chosen_shift=(0, 20), chosen_tokens=(20, 20), grad_norm=(2, 2))
    for k, row in enumerate(rows):
        row["loss"] = (7.0, 15.0, 9.0, 12.0)[k % 4]
    mixed = {"name": "mix", "parts": [{"name": "dpo", "beta": 0.3}, {"name": "sft", "weight": 3.0}]}
    assert names(StageRecord("dpo", "preference", {"loss": mixed, "lr": 7e-4}, rows)) == []
    alone = {"name": "dpo", "beta": 0.3}
    assert names(StageRecord("dpo", "preference", {"loss": alone, "lr": 7e-4}, rows)) != []


def test_beta_beside_another_loss_is_told_by_what_the_preference_sees() -> None:
    """What moves the policy there is the likelihood; a preference that is not seen, or satisfied many times
    over, counts for nothing. Figures as shipped recipes leave them have no finding."""

    def mixed(beta: float, margin: float, weight: float = 1.0) -> StageRecord:
        shifts = {"chosen_shift": (0, margin * 0.7), "rejected_shift": (0, -margin * 0.3)}
        case = dpo(margin=(0, margin), kl=(0, 300.0), loss=(3.0, 1.7), **shifts)
        parts = [{"name": "dpo", "beta": beta}, {"name": "sft", "weight": weight}]
        return replace(case, config={"loss": {"name": "mix", "parts": parts}, "lr": 1e-3})

    for beta, margin in ((0.1, 11.6), (0.1, 4.4), (0.3, 27.0), (0.1, 43.0)):
        assert names(mixed(beta, margin)) == []
    unseen = replace(mixed(0.001, 20.0, 2.0), places={"RECIPE": "shop.yaml"})
    (low,) = examined([unseen]).findings
    assert (low.check, low.line) == (
        "beta_low",
        "loss: {name: mix, parts: [{name: dpo, beta: 0.1}, {name: sft, weight: 2.0}]}",
    )
    only, sets = ordered_run(low.test) or ([], [])
    assert only == ["dpo"]
    assert sets == ["dpo." + low.line.replace(": ", "=", 1)]
    (high,) = examined([mixed(5.0, 8.0)]).findings
    assert high.check == "beta_high"
    assert "beta: 0.5" in high.line
    assert names(mixed(0.001, 0.4)) == []  # it has not moved: nothing is told of β


def test_every_check_that_the_page_names_is_registered() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/doctor.md").read_text(encoding="utf-8")
    examined([])
    from accord.detect.base import configured
    from accord.pipeline.doctor import deep, first_step, other_trainers

    assert deep
    assert first_step
    assert other_trainers
    rows = page.partition("## What others' runs went wrong by")[2].partition("## What it does")[0]
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)*)`", rows)) - {"max_completion"}
    assert len(named) > 20
    assert named <= {*checks, *(name for name, *_ in configured("all"))}


def test_an_unlearned_answer_asks_for_more_likelihood_not_for_a_mixture_in_a_mixture() -> None:
    fallen = dpo(margin=(0, 20), chosen_shift=(0, -40), rejected_shift=(0, -60))
    parts = [{"name": "simpo", "gamma": 1.0}, {"name": "sft", "weight": 0.5}]
    config = {"loss": {"name": "mix", "parts": parts}, "lr": 1e-3}
    lines = [
        f.line
        for case in (fallen, replace(fallen, config=config))
        for f in examined([case]).findings
        if f.check == "displacement"
    ]
    assert lines == [
        "loss: {name: mix, parts: [{name: dpo, beta: 0.1}, {name: sft, weight: 1.0}]}",
        "loss: {name: mix, parts: [{name: simpo, gamma: 1.0}, {name: sft, weight: 1.5}]}",
    ]


def test_one_batch_of_a_high_loss_is_no_divergence() -> None:
    """Of 200 steps of two pairs one or another is five times the first: what stays high for five is one."""
    rows = log(200, loss=(0.7, 0.4), grad_norm=(2, 2))
    rows[90]["loss"] = rows[91]["loss"] = 4.0
    once = StageRecord("rm", "reward", {"lr": 1e-3}, rows)
    assert "learning_rate_high" not in names(once)
    for row in rows[92:97]:
        row["loss"] = 7.0
    assert names(once)[0] == "learning_rate_high"


def test_no_gradient_is_named_before_anything_else() -> None:
    rows = log(loss=(0.6931, 0.6931), grad_norm=(0, 0), margin=(0, 0))
    found = examined(
        [StageRecord("dpo", "preference", {"loss": {"name": "dpo", "beta": 0.0}}, rows)]
    ).findings
    assert (found[0].check, found[0].serious) == ("dead", True)
    assert "β is 0" in found[0].cause


def test_a_policy_run() -> None:
    def online(**columns: tuple[float, float]) -> list[str]:
        more = {"length": (10.0, 10.0), **columns}
        return names(
            StageRecord("ppo", "online", {"missing_eos": {"treatment": "leave"}}, log(**more))
        )

    assert online(kl=(0, 2), kl_k3=(0, 2), entropy=(2, 1.8), truncation_rate=(0, 0.05)) == []
    assert online(kl_k3=(0, 40)) == ["kl_runaway"]
    assert online(silent_groups=(0.5, 1.0)) == ["silent_groups"]
    assert online(entropy=(2, 0.02)) == ["entropy_collapse"]
    assert online(truncation_rate=(0, 0.9)) == ["answers_cut"]
    assert online(explained_variance=(0.1, -3.0)) == ["value_misleads"]
    assert online(kl=(5, 6))[0] == "not_the_reference"
    assert online(sampler_gap_mean=(0.4, 0.4)) == ["other_sampler"]
    assert online(kl=(0, 2), first_ratio_gap=(0.3, 0.3)) == ["not_the_reference"]


def pairs(n: int, chosen: str, rejected: str) -> list[Group]:
    return [
        Group(
            prompt=Prompt.user(f"What about number {k}?"),
            responses=(Response(text=chosen.format(k)), Response(text=rejected.format(k))),
            edges=(Edge(better=0, worse=1),),
        )
        for k in range(n)
    ]


def test_a_ridge_on_words_tells_what_a_manner_is() -> None:
    """One side says yes: all of unseen prompts; sides that differ by nothing: a coin."""
    every = [p for g in pairs(40, "yes {}", "no {}") for p in g.pairs()]
    assert told_apart(every) == 1.0
    same = [p for g in pairs(40, "yes {}", "yes {}") for p in g.pairs()]
    assert told_apart(same) == 0.5


def test_noise_is_what_two_raters_disagree_on() -> None:
    """Three votes, two of them alike: two agree in 1 of 3 ways, below what guessing gives."""
    edge = Edge(better=0, worse=1, p=2 / 3, agreement=2 / 3, sources=("a", "b", "c"))
    split = [g.model_copy(update={"edges": (edge,)}) for g in pairs(30, "yes {}", "no {}")]
    found = [
        f
        for f in examined([StageRecord("data", "data", train=split)]).findings
        if f.check == "label_noise"
    ]
    assert "0.333" in found[0].number
    assert found[0].strength == 1.0


def test_the_rater_who_says_the_opposite_is_named() -> None:
    edge = Edge(better=0, worse=1, p=2 / 3, agreement=2 / 3, sources=("a", "b", "c"))
    split = [g.model_copy(update={"edges": (edge,)}) for g in pairs(30, "yes {}", "no {}")]

    def cause(**raters: tuple[int, int]) -> str:
        found = examined([StageRecord("data", "data", facts={"raters": raters}, train=split)])
        return next(f.cause for f in found.findings if f.check == "label_noise")

    assert cause(Ada=(60, 90), Bo=(60, 90), Emre=(9, 90)).startswith("rater Emre says the opposite")
    assert cause(Ada=(9, 90), Bo=(9, 90)) == "raters contradict each other"
    assert cause(Ada=(60, 90), Bo=(60, 90), Emre=(40, 90)) == "raters contradict each other"


def test_what_comes_after_a_likelier_cause_is_less_sure() -> None:
    fell = {"margin": (2.0, 20), "chosen_shift": (1, -40), "rejected_shift": (-1, -60)}
    first, *after = examined([dpo(**fell)]).findings
    assert first.check == "not_the_reference"
    assert first.confidence > 0.9
    assert all(f.confidence < chance(f.check, f.strength) for f in after)
    assert "displacement" in {f.check for f in after}
    assert (
        chance("of a plug-in", 1.0)
        > chance("of a plug-in", 0.2)
        > chance("of a plug-in", 0.2, True)
    )


def test_what_there_is_too_little_of_is_not_called_clear() -> None:
    few = examined([StageRecord("data", "data", train=pairs(5, "yes {}", "no {}"))])
    assert ("data", "giveaway") in few.unseen
    assert not few.clear or ("data", "giveaway") not in few.clear
    gone = examined([StageRecord("data", "data")])  # a store that can't be read
    assert [name for _, name in gone.clear] == ["unreadable"]
    silent = examined([StageRecord("ppo", "online", log=[{"step": k} for k in range(20)])])
    assert (silent.findings, silent.clear) == ([], [])


def test_rows_that_are_almost_right_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.jsonl"
    good = {"prompt": "Tea?", "chosen": "yes", "rejected": "no"}
    rows = [good, good | {"chosen": None}, {"prompt": "q", "choosen": "yes", "rejected": "no"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, shown, _ = accord(capsys, "data", "lint", str(path))
    assert code == 1
    assert "rows can't be read" in shown
    assert "2 of 3 rows" in shown
    assert "rows.jsonl:2 chosen" in shown


def test_two_raters_who_err_agree_as_often_as_they_do(tmp_path: Path) -> None:
    """Each is wrong in a quarter: they agree in 0.625, though a store drops pairs that are split evenly."""
    draw, raters = random.Random(3), [Rater(name=name, kind="human") for name in ("Ada", "Bruno")]
    with Store(tmp_path / "two.db") as store:
        store.add_raters(raters)
        for k in range(300):
            prompt = Prompt.user(f"q{k}?")
            answers = [Response(text=f"a {k}"), Response(text=f"b {k}")]
            store.add_prompts([prompt])
            store.add_responses(prompt, answers)
            sides = (answers[0].id_for(prompt), answers[1].id_for(prompt))
            question = Question(prompt=prompt.id, responses=sides, kind="compare")
            store.add_questions([question])
            for n, r in enumerate(raters):
                answer = Preference(better=int(draw.random() < 0.25))
                at = f"2026-01-01T00:00:0{n}+00:00"
                judged = Judgment(question=question.id, rater=r.id, answer=answer, at=at)
                store.add_judgments([judged])
        store.freeze("v1")
    cases = of_data(f"{tmp_path / 'two.db'}@v1")
    (noise,) = [f for f in examined(cases).findings if f.check == "label_noise"]
    told = float(noise.number.partition("agree on ")[2].split()[0])
    assert told == pytest.approx(0.625, abs=0.06)


def test_a_file_that_says_both_of_a_pair_is_named(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{k}?", "chosen": f"a {k}", "rejected": f"b {k}"} for k in range(60)]
    rows += [r | {"chosen": r["rejected"], "rejected": r["chosen"]} for r in rows[::4]]
    path = tmp_path / "both.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (both,) = [f for f in examined(of_data(str(path))).findings if f.check == "opposite_labels"]
    assert (both.number.startswith("15 of 60 pairs"), both.serious) == (True, True)
    # rows that agree are one row: those left say nothing of how often raters do
    assert (path.name, "label_noise") in examined(of_data(str(path))).unseen


def test_data_lint_names_what_is_wrong_in_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    words = ["river", "stone", "lamp", "bread", "chair", "cloud", "glass", "wheel"]

    def rows(mark: str) -> str:
        sides = [
            (f"the {words[k % 8]} is {words[k % 5]}", f"the {words[k % 7]} is {words[k % 3]}{mark}")
            for k in range(70)
            if (k % 8, k % 5) != (k % 7, k % 3)  # no answer beside itself
        ]
        texts = [side if mark or k % 2 else side[::-1] for k, side in enumerate(sides)]
        return "".join(
            json.dumps({"prompt": f"q{k}?", "chosen": a, "rejected": b}) + "\n"
            for k, (a, b) in enumerate(texts)
        )

    good.write_text(rows(""))
    bad.write_text(rows(" delve"))
    code, shown, _ = accord(capsys, "data", "lint", str(bad), "--json")
    found = json.loads(shown)["findings"]
    assert (code, "giveaway" in [f["check"] for f in found]) == (1, True)
    code, shown, _ = accord(capsys, "data", "lint", str(good))
    assert (code, "no sign of: opposite_labels" in shown) == (0, True)
    assert "too little to tell: label_noise" in shown  # nothing was judged twice
    code, _, error = accord(capsys, "data", "lint", str(tmp_path / "none.jsonl"))
    assert_one_line(code, error, "no such file")
    code, _, error = accord(capsys, "data", "x", "y")
    assert_one_line(code, error, "takes one file")


def test_the_error_a_stage_ended_in_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accord.core.errors import RunError
    from accord.core.rundir import FAILED
    from accord.pipeline import stage as stages
    from accord.pipeline.doctor.reading import _ended_by
    from accord.pipeline.folder import RunFolder
    from accord.pipeline.recipe import Node
    from accord.pipeline.runner import run_stage
    from accord.pipeline.stage import StageConfig, stage

    monkeypatch.setattr("accord.pipeline.stage._KINDS", stages.kinds())  # a copy
    results: list[object] = [RunError("grad_norm is nan", where="x"), RunError("disk is full")]

    def ends(ctx: object) -> object:
        raise results.pop(0)  # type: ignore[misc]

    @stage("breaks", run=ends)
    class Breaks(StageConfig):
        pass

    recipe = SimpleNamespace(seed=1, model="m", folder=tmp_path, trackers=(), nodes=())
    node, folder = Node("x", Breaks(kind="breaks"), ()), RunFolder(tmp_path, {"x": tmp_path / "x"})
    (tmp_path / "x").mkdir()
    for expected in ({"not finite": "x: grad_norm is nan"}, {}):
        with pytest.raises(RunError):
            run_stage(recipe, node, folder, tmp_path, MagicMock())  # type: ignore[arg-type]
        assert _ended_by(tmp_path / "x" / FAILED) == expected


def asked(prompt: str) -> Group:
    answers = (Response(text="Yes."), Response(text="No."))
    return Group(prompt=Prompt.user(prompt), responses=answers, edges=(Edge(better=0, worse=1),))


def test_a_held_out_prompt_with_a_few_words_about_it_is_a_leak_and_another_question_is_none() -> (
    None
):
    words = [
        "alpha",
        "beta",
        "gamma",
        "delta",
        "epsilon",
        "zeta",
        "eta",
        "theta",
        "iota",
        "kappa",
        "lambda",
        "mu",
    ]
    held = [asked(" ".join([w, *words[k + 1 :], *words[:k]])) for k, w in enumerate(words)]
    others = [asked(f"When does the {w} leave for the town of {w}ville?") for w in words]
    clear = StageRecord("data", "data", train=others, held=held)
    assert "leak" not in names(clear)
    about = [asked(f"Hello there, {g.prompt.last.title()}, please!") for g in held[:6]]
    assert "leak" in names(StageRecord("data", "data", train=[*others, *about], held=held))
    inside = [asked(" ".join(g.prompt.last.split()[1:])) for g in held[:6]]
    assert "leak" in names(StageRecord("data", "data", train=[*others, *inside], held=held))
    longer = [asked(g.prompt.last + " " + " ".join(words)) for g in held[:6]]  # half is another's
    assert "leak" not in names(StageRecord("data", "data", train=[*others, *longer], held=held))


def compared(draw: random.Random, paid: float, true: float, n: int = 60) -> StageRecord:
    """Pairs in which the longer answer is chosen with chance `paid`; answers of two policies, of which the
    longer is the better by the truth with chance `true`."""
    pairs, answers = [], []
    for k in range(n):
        short, long = f"It is {k}.", f"Well, since you ask so kindly, it is {k}."
        better = int(draw.random() < paid)
        pairs.append(
            Group(
                prompt=Prompt.user(f"What is {k}?"),
                responses=(Response(text=short), Response(text=long)),
                edges=(Edge(better=better, worse=1 - better),),
            )
        )
        best = draw.random() < true
        for policy, text, truth in (("sft", short, not best), ("dpo", long, best)):
            response, scores = {"text": text}, {"gold": float(truth)}
            row = {"policy": policy, "prompt_id": f"p{k}", "response": response, "gold": scores}
            answers.append(row)
    return StageRecord("study", "evaluation", train=pairs, answers=answers, facts={"truth": "gold"})


@pytest.mark.parametrize(
    ("paid", "true", "cause"),
    [
        (0.85, 0.15, "the pairs reward longer answers, and the evaluation does not"),
        (0.15, 0.85, "the evaluation rewards longer answers, and the pairs do not"),
        (0.85, 0.85, None),
        (0.15, 0.15, None),
    ],
)
def test_what_pairs_reward_is_held_against_what_the_evaluation_rewards(
    paid: float, true: float, cause: str | None
) -> None:
    causes = [f.cause for f in examined([compared(random.Random(1), paid, true)]).findings]
    assert causes == ([cause] if cause else [])


def test_a_mismatch_is_no_accident_of_few() -> None:
    """Of 300 cases in which neither rewards length, and of 300 in which one does, none has a mismatch but
    by chance."""
    draw = random.Random(5)
    for true in (0.5, 0.8):
        named = [bool(examined([compared(draw, 0.5, true)]).findings) for _ in range(300)]
        assert sum(named) <= 6


def test_a_penalty_larger_than_what_the_reward_gave_is_named() -> None:
    rows = log(score=(1.0, 1.2), kl_k3=(0.0, 0.1), beta=(40.0, 40.0), length=(10.0, 10.0))
    still = StageRecord("ppo", "online", {}, rows)
    assert "penalty_outweighs" in names(still)
    assert "penalty_outweighs" not in names(
        StageRecord("ppo", "online", {"scale_rewards": True}, rows)
    )
    silent = [{**row, "score": 1.0} for row in rows]
    assert names(StageRecord("ppo", "online", {}, silent)) == ["silent_groups"]
    light = [{**row, "beta": 0.1} for row in rows]
    assert "penalty_outweighs" not in names(StageRecord("ppo", "online", {}, light))
    gained = [{**row, "score": 10.0 * row["step"]} for row in rows]
    assert "penalty_outweighs" not in names(StageRecord("ppo", "online", {}, gained))


def test_answers_that_came_cut_off_are_not_over_max_completion() -> None:
    config = {"loss": {"name": "dpo", "beta": 0.1}, "max_completion": 64}
    train = [asked("How long?")] * 10
    for cut, came, named in ((20, 20, False), (28, 20, True), (8, 0, True)):
        facts = {"completions cut off": cut, "came cut off": came}
        case = StageRecord("dpo", "preference", config, facts=facts, train=train)
        assert ("truncated" in names(case)) == named


def test_no_penalty_is_named_where_beta_is_not_used_and_no_rate_by_a_loss_of_rankings() -> None:
    rows = log(score=(1.0, 1.2), kl_k3=(0.0, 0.1), beta=(40.0, 40.0), length=(10.0, 10.0))
    for kind, named in (("ppo", True), ("online_dpo", False), ("best_of_n", False)):
        case = StageRecord("x", "online", {"kind": kind}, rows)
        assert ("penalty_outweighs" in names(case)) == named
    coin = math.log(24) / 3  # of four answers in a row, nothing known of them
    for end, named in ((coin, False), (3 * coin, True)):
        ranks = log(loss=(coin, end), grad_norm=(1.0, 1.0))
        case = StageRecord("rm", "reward", {"lr": 1e-3}, ranks)
        assert ("learning_rate_high" in names(case)) == named
